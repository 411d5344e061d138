// One passage before training, on its way and after it: see passage_view.py for the value and what the server sends.

const EMPTY = "There is no model to look at yet.";

const find = (selector) => element.querySelector(selector);
const slider = find(".pv-slider");
const columns = [...element.querySelectorAll(".pv-column")];
const boxes = columns.map((column) => column.querySelector(".pv-text"));
const state = { seen: null, places: [], nodes: [], lit: null, colours: null };

const question = () => [props.value.visitor, props.value.version];
const load = loadWhileOpen(EMPTY, () => server.passage(question()), take);

function take(answer) {
  state.seen = {
    ...answer,
    losses: unpack(answer.losses, Float32Array),
    guesses: unpack(answer.guesses, Int32Array),
    guess_probs: unpack(answer.guess_probs, Float32Array),
  };
  const { moments, tokens, steps } = state.seen;
  const [before, between, after] = moments.length < 3 ? [moments[0], null, moments[1] ?? null] : moments;
  slider.max = steps.length - 1;
  slider.value = between ?? 0;
  state.nodes = boxes.map((box) => showTokens(box, tokens));
  state.lit = null;
  show([before, between, after]);
}

// The places of the snapshots in the three columns; null where there is none.
function show(places) {
  state.places = places;
  columns.forEach((column, i) => (column.hidden = places[i] === null));
  colour();
  tell(state.lit);
  Object.assign(element.dataset, { snapshots: state.seen.steps.length, places: String(places) });
}

function colour() {
  state.colours ??= heatLevels();
  const { steps, means } = state.seen;
  const last = steps.at(-1).toLocaleString("en");
  state.places.forEach((at, i) => {
    if (at === null) return;
    const step = `step ${steps[at].toLocaleString("en")}`;
    columns[i].querySelector(".pv-about").textContent = `${step} of ${last}: ${means[at].toFixed(3)} nats a token`;
    if (i === 1) slider.setAttribute("aria-valuetext", step);
    paintTokens(state.nodes[i], lossesAt(at), state.colours);
  });
}

// The loss of every token; nothing predicts the first.
function lossesAt(at) {
  const n = state.seen.tokens.length - 1;
  return [NaN, ...state.seen.losses.subarray(at * n, (at + 1) * n)];
}

// ---- One token ----

function tell(place) {
  state.lit = place;
  state.places.forEach((at, i) => columns[i].querySelector(".pv-told").replaceChildren(...told(at, place)));
}

function told(at, place) {
  if (at === null || place === null) return [];
  const { losses, guesses, guess_probs, texts, tokens } = state.seen;
  if (place === 0) return [make("bdi", "pv-name", visible(tokens[0])), " is the first: nothing predicts it."];
  const i = at * (tokens.length - 1) + place - 1;
  const guess = texts[guesses[i]];
  const lines = [
    tokenLine(tokens[place], Math.exp(-losses[i]), true, probability(losses[i])),
    tokenLine(guess, guess_probs[i], guess === tokens[place]),
  ];
  lines[1].firstChild.append(make("small", "", " best guess"));
  const [table, body] = [make("table"), make("tbody")];
  body.append(...lines);
  table.append(body);
  return [table];
}

readTokens(boxes, tell);

slider.addEventListener("input", () => show([state.places[0], Number(slider.value), state.places[2]]));
offerFigure(find(".figure-buttons"), (kind) => server.figure([...question(), state.places[1] ?? 0, kind]));
onTheme(() => {
  state.colours = null;
  if (state.seen) colour();
});
watch("value", load);
load();
