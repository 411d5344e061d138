// The logit lens: see logit_lens.py for the value and what the server sends.

const EMPTY = "Press Show attention to look at a prompt.";

const find = (selector) => element.querySelector(selector);
const state = { id: null, position: -1, logits: null, order: null, likeliest: [] };

const load = loadWhileOpen(EMPTY, () => server.lens([props.value.id, state.position]), show);

function show({ position, tokens, rows, logits, likeliest }) {
  offerTokens(find(".ll-position"), tokens, position);
  const longest = Math.max(...rows.map((row) => row.length));
  find(".ll-places").replaceChildren(...rows.map((row) => line(row, longest)));
  state.logits = unpack(logits, Float32Array); // (V,)
  state.order = ranking(state.logits);
  state.likeliest = likeliest;
  tellProbabilities();
  element.dataset.position = position;
}

// ---- After each layer ----

function line({ name, length, top }, longest) {
  const title = make("th", "", name);
  title.scope = "row";
  const added = make("td", "look-bar", length.toFixed(2));
  added.style.setProperty("--share", length / longest);
  const words = make("td", "ll-words");
  words.append(...top.map(word));
  const row = make("tr");
  row.append(title, added, words);
  return row;
}

function word([text, p]) {
  const node = make("span", "ll-word");
  node.style.setProperty("--p", p);
  node.append(make("bdi", "", visible(text)), make("small", "", ` ${(100 * p).toFixed(1)} %`));
  return node;
}

// ---- From logits to probabilities ----

function tellProbabilities() {
  const T = Number(find(".ll-temperature").value);
  const probs = distribution(state.logits, T, 0, 1, state.order); // (V,)
  find(".ll-chosen").textContent = T.toFixed(2);
  find(".ll-chances").replaceChildren(...state.likeliest.map((text, rank) => wordLine(text, rank, T, probs)));
  find(".ll-sum").textContent = sumSentence(T, probs);
}

function wordLine(text, rank, T, probs) {
  const id = state.order[rank];
  const [x, p] = [state.logits[id], probs[id]];
  const highest = state.logits[state.order[0]];
  const name = make("th");
  name.scope = "row";
  name.append(make("bdi", "ll-token", visible(text)));
  const cell = make("td", "look-bar", chance(p));
  cell.style.setProperty("--share", p);
  const divided = make("td", "", T > 0 ? number(x / T) : "");
  const raised = make("td");
  if (T > 0) raised.append(...power((x - highest) / T));
  const row = make("tr");
  row.dataset.p = p;
  row.append(name, make("td", "", number(x)), divided, raised, cell);
  return row;
}

const chance = (p) => (p > 0 && p < 0.0001 ? "< 0.01 %" : `${(100 * p).toFixed(2)} %`);

// e to the x as text and nodes; of what is too small for four decimals the leading digits.
function power(x) {
  const y = Math.exp(x);
  if (y >= 0.001 || y === 0) return [y.toFixed(4)];
  const [digits, exponent] = y.toExponential(1).split("e-");
  return [`${digits} · 10`, make("sup", "", `−${exponent}`)];
}

function sumSentence(T, probs) {
  if (T === 0) return "Nothing can be divided by 0: temperature 0 is greedy, the likeliest token is certain.";
  const sum = 1 / probs[state.order[0]]; // the likeliest token's own power is e to the 0
  return `Σ = ${sum.toFixed(4)} over all ${probs.length.toLocaleString("en")} tokens`;
}

find(".ll-temperature").addEventListener("input", tellProbabilities);
find(".ll-position").addEventListener("change", (event) => {
  state.position = Number(event.target.value);
  load();
});
offerFigure(find(".figure-buttons"), (kind) => server.lens_figure([props.value.id, state.position, kind]));
watch("value", () => {
  const id = props.value?.id;
  if (id !== state.id) [state.id, state.position] = [id, -1]; // another trace
  load();
});
load();
