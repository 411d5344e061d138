// Merges replayed: see merge_film.py for what the server sends. After k merges the tokens of the passage are the bytes
// between the borders that a later merge takes away.

const EMPTY = "Merges are replayed once a model is in use.";
const FRAME_MS = 150; // of the film
const ONE_BY_ONE = 50; // merges; then the film goes on by a fiftieth of those before, or it would take minutes
const N_BYTES = 256; // entries before the first merge: merge k made the entry 255 + k

const find = (selector) => element.querySelector(selector);
const slider = find(".mf-slider");
const canvas = find(".mf-curve");
const state = { seen: null, at: 0, film: 0, plot: null, colours: null };

const count = (n, what) => `${whole(n)} ${what}${n === 1 ? "" : "s"}`;
const quoted = ({ text, kind }) => make("bdi", "mf-name", `“${kind === "bytes" ? text : visible(text)}”`);

// ---- What comes from the server ----

const load = loadWhileOpen(EMPTY, () => server.replayed([props.value.visitor, props.value.version]), take);

function take(answer) {
  stopFilm();
  const merges = unpack(answer.merges, Uint16Array);
  state.seen = {
    bytes: new TextEncoder().encode(answer.passage),
    borders: unpack(answer.borders, Uint16Array),
    times: unpack(answer.times, Uint32Array),
    chars: answer.n_chars,
    merges,
    entries: entriesOf(merges),
    lengths: lengthsOf(answer),
  };
  find(".mf-about").textContent = answer.about;
  slider.max = state.seen.times.length;
  show(Math.min(state.at, state.seen.times.length));
}

// The vocabulary's entries, each {text, kind} as a person should see it.
function entriesOf(merges) {
  const entries = Array.from({ length: N_BYTES }, (_, byte) => [byte]);
  for (let i = 0; i < merges.length; i += 2) entries.push(entries[merges[i]].concat(entries[merges[i + 1]]));
  return entries.map(entryShown);
}

function entryShown(bytes) {
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(bytes));
    return { text, kind: "known" };
  } catch {
    return { text: `‹${bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(" ")}›`, kind: "bytes" };
  }
}

// In tokens, of the whole text: before the first merge, and after each.
function lengthsOf({ n_bytes, times }) {
  const lengths = [n_bytes];
  for (const n of unpack(times, Uint32Array)) lengths.push(lengths.at(-1) - n);
  return lengths;
}

// ---- After so many merges ----

function show(at) {
  state.at = at;
  const { times, lengths, chars } = state.seen;
  const place = `merge ${whole(at)} of ${whole(times.length)}`;
  slider.value = at;
  slider.setAttribute("aria-valuetext", place);
  find(".mf-place").textContent = place;
  find(".mf-back").disabled = at === 0;
  find(".mf-on").disabled = at === times.length;
  find(".mf-told").ariaLive = state.film ? "off" : "polite"; // nobody can listen as fast as the film goes
  find(".mf-told").replaceChildren(...sentence(at));
  const ratio = lengths[at] ? chars / lengths[at] : 0;
  find(".mf-figures").textContent =
    `${count(lengths[at], "token")} in all · ${perChar(at).toFixed(3)} tokens per character · ${ratio.toFixed(2)} characters per token`;
  showPassage();
  draw();
  Object.assign(element.dataset, { at, tokens: lengths[at], merges: times.length });
}

function sentence(at) {
  const { merges, entries, times, borders } = state.seen;
  if (!at) return ["No merge yet: every byte is a token."];
  const [left, right, joined] = [merges[2 * at - 2], merges[2 * at - 1], N_BYTES - 1 + at].map((id) => quoted(entries[id]));
  const here = borders.filter((merge) => merge === at).length;
  return [`Merge ${whole(at)}: `, left, " + ", right, " → ", joined,
    `, joined ${count(times[at - 1], "time")}, ${here ? whole(here) : "none"} of them in the passage below.`];
}

const perChar = (at) => state.seen.lengths[at] / Math.max(1, state.seen.chars);

// The tokens of the passage as [id, text, kind]. The last of the merges inside a token is the one that made it.
function tokensNow() {
  const { bytes, borders, entries } = state.seen;
  const tokens = [];
  let [start, last] = [0, 0];
  bytes.forEach((byte, i) => {
    if (borders[i] <= state.at) return (last = Math.max(last, borders[i]));
    const id = i === start ? byte : N_BYTES - 1 + last;
    tokens.push([id, entries[id].text, entries[id].kind]);
    [start, last] = [i + 1, 0];
  });
  return tokens;
}

// Those that this merge has made are lit.
function showPassage() {
  const made = state.at ? N_BYTES - 1 + state.at : -1;
  fillText(find(".mf-text"), tokensNow(), ([id, , kind], i, text) => {
    return make("bdi", `${tokenClass(id, kind)}${id === made ? " lit" : ""}`, text);
  });
}

// ---- The curve ----

function draw() {
  const { clientWidth: width, clientHeight: height } = canvas;
  if (!state.seen || !width) return; // in a tab that is not open
  state.colours ??= Object.fromEntries(
    ["body-text-color", "border-color-primary", "look-plus"].map((name) => [name, `rgb(${rgb(`--${name}`)})`]),
  );
  const { lengths } = state.seen;
  const [quiet, grid, line] = Object.values(state.colours);
  const plot = layOut(width, height);
  const context = prepareCanvas(canvas, width, height);
  context.font = FONT;
  drawAxes(context, plot, { quiet, grid }, {
    x: { title: "merges", smallest: 1, format: whole },
    y: { title: "tokens per character" },
  });
  context.strokeStyle = context.fillStyle = line;
  context.lineWidth = 2;
  context.beginPath();
  lengths.forEach((_, at) => context.lineTo(plot.x(at), plot.y(perChar(at))));
  context.stroke();
  context.beginPath();
  context.arc(plot.x(state.at), plot.y(perChar(state.at)), 5, 0, 2 * Math.PI);
  context.fill();
  canvas.ariaLabel = `Tokens per character fall from ${perChar(0).toFixed(3)} to ${perChar(lengths.length - 1).toFixed(3)}; ` +
    `after merge ${state.at} ${perChar(state.at).toFixed(3)}.`;
  state.plot = plot;
}

function layOut(width, height) {
  const edges = { left: MARGIN.left, right: width - MARGIN.right, top: MARGIN.top, bottom: height - MARGIN.bottom };
  const steps = [0, state.seen.times.length];
  const losses = roundRange(0, perChar(0), false);
  return { ...edges, steps, losses, x: scale(steps, [edges.left, edges.right]), y: scale(losses, [edges.bottom, edges.top]) };
}

// ---- The visitor's hands ----

function scrubTo(at) {
  stopFilm();
  show(Math.min(Math.max(Math.round(at), 0), state.seen.times.length));
}

function playOrPause() {
  if (state.film) return scrubTo(state.at); // once more, aloud
  if (state.at === state.seen.times.length) show(0);
  find(".mf-play").textContent = "Pause";
  state.film = setInterval(showNext, FRAME_MS);
}

function showNext() {
  const last = state.seen.times.length;
  const next = Math.min(state.at + Math.max(1, Math.floor(state.at / ONE_BY_ONE)), last);
  if (next === last) stopFilm();
  show(next);
}

function stopFilm() {
  clearInterval(state.film);
  state.film = 0;
  find(".mf-play").textContent = "Play";
}

const mergeUnder = (event) => state.plot.x.invert(event.offsetX);

slider.addEventListener("input", () => scrubTo(Number(slider.value)));
find(".mf-play").addEventListener("click", playOrPause);
find(".mf-back").addEventListener("click", () => scrubTo(state.at - 1));
find(".mf-on").addEventListener("click", () => scrubTo(state.at + 1));
canvas.addEventListener("pointerdown", (event) => state.plot && scrubTo(mergeUnder(event)));
canvas.addEventListener("pointermove", (event) => state.plot && event.buttons && scrubTo(mergeUnder(event)));
offerFigure(find(".figure-buttons"), (kind) => server.figure([props.value.visitor, props.value.version, state.at, kind]));
keepPainted(canvas, draw, () => (state.colours = null));
watch("value", load);
load();
