// A text coloured by surprise: see surprise_view.py for the value and what the server sends.

const EMPTY = "Measure a text, and it appears here in the colours of its losses.";
const MOST = 8; // nats; what surprises more has the colour of that

const find = (selector) => element.querySelector(selector);
const state = { starts: [], length: 0, at: 0, passage: null, nodes: [], colours: null };

const load = loadWhileOpen(EMPTY, () => server.passages([props.value.id, find(".sv-order").value]), take);

function take({ starts, length }) {
  Object.assign(state, { starts, length, at: 0 });
  turnTo(0);
}

let requests = 0;

async function turnTo(at) {
  state.at = Math.min(Math.max(at, 0), state.starts.length - 1);
  find(".sv-back").disabled = state.at === 0;
  find(".sv-on").disabled = state.at === state.starts.length - 1;
  const request = ++requests;
  const answer = await ask(() => server.passage([props.value.id, state.starts[state.at], state.length]));
  if (request !== requests || !props.value) return;
  find(".look-note").textContent = answer.error ?? "";
  find(".look-note").hidden = !answer.error;
  if (!answer.error) show(answer);
}

function show(answer) {
  state.passage = { ...answer, loss: unpack(answer.loss, Float32Array), rank: unpack(answer.rank, Int32Array) };
  const begin = state.starts[state.at];
  const [first, last] = [begin + 1, Math.min(begin + state.length, answer.n_tokens)].map((n) => n.toLocaleString("en"));
  find(".sv-place").textContent = `tokens ${first} to ${last} of ${answer.n_tokens.toLocaleString("en")}`;
  find(".sv-most").textContent = `${MOST} nats and more`;
  build();
  colour();
  tell(null);
  Object.assign(element.dataset, { start: answer.start, passages: state.starts.length });
}

// ---- The passage ----

function build() {
  const { tokens, start } = state.passage;
  const begin = state.starts[state.at] - start;
  const inside = (i) => i >= begin && i < begin + state.length; // the rest is what stands around it
  const parts = tokens.flatMap((text, i) => {
    const node = make("bdi", inside(i) ? "sv-token" : "sv-token sv-around", inText(text));
    node.setAttribute("role", "option");
    node.ariaSelected = "false";
    node.tabIndex = i ? -1 : 0;
    node.dataset.i = i;
    return text.endsWith("\n") ? [node, make("br")] : [node];
  });
  find(".sv-text").replaceChildren(...parts);
  state.nodes = [...element.querySelectorAll(".sv-token")];
}

function colour() {
  if (!state.passage) return;
  state.colours ??= heatLevels();
  state.nodes.forEach((node, i) => {
    const loss = state.passage.loss[i];
    if (Number.isNaN(loss)) return;
    const [r, g, b] = state.colours[Math.round(255 * Math.min(loss / MOST, 1))];
    node.style.background = `rgb(${r} ${g} ${b})`;
    node.style.color = luminance(r, g, b) > 0.179 ? "#000" : "#fff"; // whichever of the two is farther from it
  });
  const stops = [0, 1, 2, 3, 4].map((i) => `var(--heat-${i})`);
  find(".sv-scale i").style.background = `linear-gradient(90deg, ${stops})`;
}

// Of WCAG 2: 0 of black to 1 of white.
function luminance(...parts) {
  const [r, g, b] = parts.map((part) => ((part / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

// ---- One token ----

function tell(i) {
  const { tokens, loss, rank, expected } = state.passage;
  find(".sv-one tbody").replaceChildren(...(i === null ? [] : expected[i].map((guess) => guessLine(guess, tokens[i]))));
  state.nodes.forEach((node, at) => {
    node.classList.toggle("sv-lit", at === i);
    node.ariaSelected = String(at === i);
  });
  for (const name of ["loss", "rank"]) delete find(".sv-told").dataset[name];
  if (i === null) return (find(".sv-told").textContent = "Point at a token.");
  const token = make("bdi", "sv-name", visible(tokens[i]));
  if (Number.isNaN(loss[i])) return find(".sv-told").replaceChildren(token, " is the first: nothing predicts it.");
  const p = 100 * Math.exp(-loss[i]);
  const words = ` had ${p < 0.001 ? "less than 0.001" : p.toFixed(p < 1 ? 3 : 1)} %, loss ${loss[i].toFixed(3)} nats, rank ${rank[i]}.`;
  find(".sv-told").replaceChildren(token, words, expected[i].length ? " It expected:" : "");
  Object.assign(find(".sv-told").dataset, { loss: loss[i], rank: rank[i] });
}

function guessLine([text, p], token) {
  const name = make("th", text === token ? "sv-right" : "");
  name.scope = "row";
  name.append(make("bdi", "", visible(text)));
  const bar = make("td", "look-bar", `${(100 * p).toFixed(1)} %`);
  bar.style.setProperty("--share", p);
  const node = make("tr");
  node.append(name, bar);
  return node;
}

const tokenAt = (node) => node?.closest?.(".sv-token");
const indexOf = (node) => Number(node.dataset.i);

function rest() {
  const focused = tokenAt(document.activeElement);
  tell(focused && find(".sv-text").contains(focused) ? indexOf(focused) : null);
}

function move(event) {
  const step = ARROWS[event.key];
  const node = tokenAt(event.target);
  if (!step || !node) return;
  event.preventDefault();
  const next = Math.min(Math.max(indexOf(node) + step[0] + step[1], 0), state.nodes.length - 1);
  node.tabIndex = -1;
  state.nodes[next].tabIndex = 0;
  state.nodes[next].focus();
}

const text = find(".sv-text");
text.addEventListener("pointerover", (event) => tokenAt(event.target) && tell(indexOf(tokenAt(event.target))));
text.addEventListener("pointerleave", rest);
text.addEventListener("focusin", (event) => tokenAt(event.target) && tell(indexOf(tokenAt(event.target))));
text.addEventListener("focusout", rest);
text.addEventListener("keydown", move);
find(".sv-order").addEventListener("change", load);
find(".sv-back").addEventListener("click", () => turnTo(state.at - 1));
find(".sv-on").addEventListener("click", () => turnTo(state.at + 1));
onTheme(() => {
  state.colours = null;
  colour();
});
watch("value", load);
load();
