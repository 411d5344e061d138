// One head step by step: see head_stages.py for the value and what the server sends.

const EMPTY = "Press Show attention, and choose a head.";
const ARRAYS = ["q", "keys", "values", "scores", "scaled", "masked", "weights", "output"];

const find = (selector) => element.querySelector(selector);
const state = { shown: null, id: null, query: -1 };

const load = loadWhileOpen(EMPTY, () => server.stages([props.value.id, props.value.layer, props.value.head, state.query]), show);

// ---- The picture ----

function show(stages) {
  if (state.query < 0 && element.closest(".course-part")) { // there it begins in the middle: keys before it and after
    state.query = Math.floor((stages.tokens.length - 1) / 2);
    return load();
  }
  for (const name of ARRAYS) stages[name] = unpack(stages[name], Float32Array);
  state.shown = stages;
  const { layer, head, tokens, hs, query } = stages;
  const T = tokens.length;
  find(".hs-title").textContent = headName([layer, head]);
  find(".hs-scores").textContent = `(${T} × ${hs}) · (${hs} × ${T}) = ${T} × ${T}`;
  find(".hs-scaled").textContent = `= scores / ${Math.sqrt(hs).toFixed(3)}`;
  find(".hs-output-shape").textContent = `(${T} × ${T}) · (${T} × ${hs}) = ${T} × ${hs}`;
  offerTokens(find(".hs-query"), tokens, query);
  find("tbody").replaceChildren(...tokens.map((_, key) => row(key)));
  find(".hs-numbers").textContent = "";
  paint();
  element.dataset.query = query;
}

const vectorOf = (name, i) => state.shown[name].subarray(i * state.shown.hs, (i + 1) * state.shown.hs);

function row(key) {
  const { scores, scaled, masked, weights, query, tokens } = state.shown;
  const line = make("tr", key > query ? "hs-future" : "");
  const name = make("th");
  name.scope = "row";
  const button = make("button", "hs-token look-link");
  button.type = "button";
  button.dataset.key = key;
  button.append(`${key + 1} `, make("bdi", "", visible(tokens[key])));
  name.append(button);
  const weight = make("td", "look-bar", weights[key].toFixed(4));
  weight.style.setProperty("--share", weights[key]);
  const hidden = masked[key] === -Infinity ? "−∞" : number(masked[key]);
  line.append(name, strip("keys", key), cell(number(scores[key])), cell(number(scaled[key])), cell(hidden));
  line.append(weight, strip("values", key));
  return line;
}

const cell = (text) => make("td", "", text);

function strip(name, key) {
  const td = make("td");
  const canvas = make("canvas");
  canvas.setAttribute("role", "img");
  Object.assign(canvas.dataset, { name, key });
  td.append(canvas);
  return td;
}

function paint() {
  const { q, output, keys, values } = state.shown;
  const largest = { keys: span(keys, q), values: span(values, output) };
  const colours = [rgb("--look-minus"), rgb("--look-plus")];
  paintStrip(find(".hs-q"), q, largest.keys, colours, "query");
  paintStrip(find(".hs-o"), output, largest.values, colours, "output");
  for (const canvas of element.querySelectorAll("td canvas")) {
    const { name, key } = canvas.dataset;
    paintStrip(canvas, vectorOf(name, Number(key)), largest[name], colours, name === "keys" ? "key" : "value");
  }
}

// The largest number without its sign, so that all of a kind share one scale.
const span = (...arrays) => arrays.reduce((most, a) => a.reduce((m, x) => Math.max(m, Math.abs(x)), most), 1e-9);

function paintStrip(canvas, vector, largest, [minus, plus], word) {
  canvas.width = vector.length;
  canvas.height = 1;
  const context = canvas.getContext("2d");
  vector.forEach((x, i) => {
    const [r, g, b] = x < 0 ? minus : plus;
    context.fillStyle = `rgba(${r}, ${g}, ${b}, ${Math.abs(x) / largest})`;
    context.fillRect(i, 0, 1, 1);
  });
  canvas.ariaLabel = `${word}, ${vector.length} numbers from ${number(Math.min(...vector))} to ${number(Math.max(...vector))}`;
}

// ---- The numbers of a token ----

function tellNumbers(key) {
  const list = (vector) => Array.from(vector, number).join("  ");
  const lines = [
    ["query", state.shown.q, state.shown.query],
    ["key", vectorOf("keys", key), key],
    ["value", vectorOf("values", key), key],
  ].map(([word, vector, i]) => {
    const line = make("span");
    line.append(make("b", "", `${word} of ${i + 1} `), make("bdi", "", visible(state.shown.tokens[i])), ` ${list(vector)}`);
    return line;
  });
  find(".hs-numbers").replaceChildren(...lines);
}

find(".hs-query").addEventListener("change", (event) => {
  state.query = Number(event.target.value);
  load();
});
find("tbody").addEventListener("click", (event) => {
  const button = event.target.closest(".hs-token");
  if (button) tellNumbers(Number(button.dataset.key));
});
onTheme(() => state.shown && paint());
offerFigure(find(".figure-buttons"), (kind) => {
  return server.stages_figure([props.value.id, props.value.layer, props.value.head, kind]);
});
watch("value", () => {
  const id = props.value?.id;
  if (id !== state.id) [state.id, state.query] = [id, -1]; // another trace
  load();
});
load();
