// A text coloured by surprise: see surprise_view.py for the value and what the server sends.

const EMPTY = "Measure a text, and it appears here in the colours of its losses.";

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
  build();
  colour();
  light(null);
  Object.assign(element.dataset, { start: answer.start, passages: state.starts.length });
}

// ---- The passage ----

function build() {
  const { tokens, start } = state.passage;
  const begin = state.starts[state.at] - start;
  const inside = (i) => i >= begin && i < begin + state.length; // the rest is what stands around it
  state.nodes = showTokens(find(".sv-text"), tokens);
  state.nodes.forEach((node, i) => node.classList.toggle("sv-around", !inside(i)));
}

function colour() {
  if (!state.passage) return;
  state.colours ??= heatLevels();
  paintTokens(state.nodes, state.passage.loss, state.colours);
}

// ---- One token ----

function tell(i) {
  const { tokens, loss, rank, expected } = state.passage;
  const guesses = i === null ? [] : expected[i];
  find(".sv-one tbody").replaceChildren(...guesses.map(([text, p]) => tokenLine(text, p, text === tokens[i])));
  for (const name of ["loss", "rank"]) delete find(".sv-told").dataset[name];
  if (i === null) return (find(".sv-told").textContent = "Point at a token.");
  const token = make("bdi", "sv-name", visible(tokens[i]));
  if (Number.isNaN(loss[i])) return find(".sv-told").replaceChildren(token, " is the first: nothing predicts it.");
  const words = ` had ${probability(loss[i])}, loss ${loss[i].toFixed(3)} nats, rank ${rank[i]}.`;
  find(".sv-told").replaceChildren(token, words, expected[i].length ? " It expected:" : "");
  Object.assign(find(".sv-told").dataset, { loss: loss[i], rank: rank[i] });
}

const light = readTokens([find(".sv-text")], tell);

find(".sv-order").addEventListener("change", load);
find(".sv-back").addEventListener("click", () => turnTo(state.at - 1));
find(".sv-on").addEventListener("click", () => turnTo(state.at + 1));
onTheme(() => {
  state.colours = null;
  colour();
});
watch("value", load);
load();
