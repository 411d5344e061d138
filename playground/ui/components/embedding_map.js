// Embeddings and positions: see embedding_map.py for the value and what the server sends.
// Tokens are known by their ids; on the map stand those of `state.map.ids`, all or the first of the vocabulary.

const EMPTY = "Press Show attention to look at a model's embeddings.";
const KINDS = ["letter", "digit", "space", "sign", "part"]; // in the server's order
const REST_MS = 60; // how long the pointer rests before a token is asked for
const NEAR = 28; // pixels from the pointer to the token that it means
const EDGE = 30; // around the tokens, for axis titles and for labels
const FRAME = 18; // where the map's frame begins, right of one axis title and above the other
const LONGEST = 14; // characters of a label
const MOST_DIALS = 16;

const find = (selector) => element.querySelector(selector);
const state = {
  map: null, // what the server sent
  width: 0, // of the picture, in pixels
  colours: null,
  places: new Map(), // id -> its place in the picture, {x, y}; only of tokens on the map
  texts: new Map(), // id -> its text
  nearest: new Map(), // id -> promise of its neighbours
  pinned: null, // the token that was chosen to stay
  chosen: null, // the token whose neighbours are listed: what is pointed at, or else the pinned one
  listed: null, // its neighbours, once they are here
};

const load = loadWhileOpen(EMPTY, () => server.embeddings(props.value.id), show);

function show(answer) {
  const points = unpack(answer.points, Float32Array); // (n, 2)
  state.map = { ...answer, points };
  state.texts = new Map(answer.ids.map((id, i) => [id, answer.texts[i]]));
  state.nearest.clear();
  tellAbout(answer);
  paint();
  pin(answer.prompt.at(-1));
  showPositions(answer.positions);
  element.dataset.drawn = answer.ids.length;
}

const count = (n) => n.toLocaleString("en");

function tellAbout({ ids, vocab_size, explained }) {
  const both = percent(explained[0] + explained[1]);
  const some = ids.length < vocab_size
    ? ` Of ${count(vocab_size)} tokens the picture has ${count(ids.length)}: the first by id, and those of the prompt.`
    : "";
  find(".em-about").textContent =
    `Each token's embedding is one row of a table. The picture shows the two directions in which the ${count(vocab_size)} ` +
    `rows differ most (principal components), with ${both} of their variance: what stands together here may be apart in ` +
    `other directions. The list compares whole rows.${some}`;
}

// ---- The map ----

function paint() {
  const stage = find(".em-stage");
  const [width, height] = [stage.clientWidth, stage.clientHeight];
  if (!state.map || !width) return;
  for (const canvas of [find(".em-map"), find(".em-light")]) prepareCanvas(canvas, width, height);
  Object.assign(state, { width, colours: readColours(), places: layOut(state.map, width, height) });
  const context = find(".em-map").getContext("2d");
  drawAxes(context, width, height);
  drawTokens(context);
  drawLight();
}

function readColours() {
  const [ink, page, lit] = ["--body-text-color", "--background-fill-primary", "--look-plus"].map(rgb);
  return {
    kinds: KINDS.map((kind) => `rgb(${rgb(`--em-${kind}`)})`),
    ink: `rgb(${ink})`,
    quiet: `rgba(${ink}, 0.75)`,
    frame: `rgba(${ink}, 0.25)`,
    page: `rgb(${page})`,
    veil: `rgba(${page}, 0.75)`,
    lit: `rgb(${lit})`,
  };
}

// Both directions on one scale, so that distances are true.
function layOut({ ids, points }, width, height) {
  const [xs, ys] = [0, 1].map((axis) => ids.map((_, i) => points[2 * i + axis]));
  const [x0, x1, y0, y1] = [...extent(xs), ...extent(ys)];
  const scale = Math.min((width - 2 * EDGE) / (x1 - x0 || 1), (height - 2 * EDGE) / (y1 - y0 || 1));
  const x = (i) => width / 2 + (xs[i] - (x0 + x1) / 2) * scale;
  const y = (i) => height / 2 - (ys[i] - (y0 + y1) / 2) * scale;
  return new Map(ids.map((id, i) => [id, { x: x(i), y: y(i) }]));
}

const extent = (numbers) => [numbers.reduce((a, b) => Math.min(a, b)), numbers.reduce((a, b) => Math.max(a, b))];

function drawAxes(context, width, height) {
  const [first, second] = state.map.explained.map(percent);
  context.strokeStyle = state.colours.frame;
  context.strokeRect(FRAME + 0.5, 0.5, width - FRAME - 1, height - FRAME - 1);
  context.fillStyle = state.colours.quiet;
  Object.assign(context, { font: `12px ${getComputedStyle(element).fontFamily}`, textAlign: "center" });
  context.textBaseline = "middle";
  context.fillText(`1st component: ${first} of the variance`, width / 2, height - 7);
  turned(context, 8, height / 2, () => context.fillText(`2nd component: ${second} of the variance`, 0, 0));
}

// As many labels as fit without touching, those of the prompt first; the others are dots.
function drawTokens(context) {
  const { ids, kinds, prompt } = state.map;
  const colours = new Map(ids.map((id, i) => [id, state.colours.kinds[kinds[i]]]));
  const inPrompt = new Set(prompt);
  const [labels, dots] = [[], []];
  context.font = labelFont();
  for (const id of new Set([...prompt, ...ids])) {
    const box = labelBox(context, id);
    if (labels.some((other) => overlap(box, other))) dots.push(id);
    else labels.push(box);
  }
  for (const id of dots) drawDot(context, id, colours.get(id), inPrompt.has(id));
  const { ink, veil } = state.colours;
  for (const box of labels) drawLabel(context, box, colours.get(box.id), veil, inPrompt.has(box.id) && ink);
}

const labelFont = () => `12px ${getComputedStyle(element).getPropertyValue("--font-mono")}`;

// Around the token's place, or as near to it as the frame allows.
function labelBox(context, id) {
  const place = state.places.get(id);
  const letters = Array.from(visible(state.texts.get(id)));
  const text = letters.length > LONGEST ? `${letters.slice(0, LONGEST - 1).join("")}…` : letters.join("");
  const half = context.measureText(text).width / 2 + 3;
  const x = Math.min(Math.max(place.x, FRAME + 1 + half), state.width - 1 - half);
  return { id, text, x0: x - half, x1: x + half, y0: place.y - 7, y1: place.y + 7 };
}

const overlap = (a, b) => a.x0 < b.x1 && b.x0 < a.x1 && a.y0 < b.y1 && b.y0 < a.y1;

function drawDot(context, id, colour, inPrompt) {
  const { x, y } = state.places.get(id);
  context.globalAlpha = inPrompt ? 1 : 0.45;
  context.fillStyle = colour;
  context.beginPath();
  context.arc(x, y, 2, 0, 7);
  context.fill();
  context.globalAlpha = 1;
  if (!inPrompt) return;
  context.strokeStyle = state.colours.ink;
  context.beginPath();
  context.arc(x, y, 5, 0, 7);
  context.stroke();
}

// On a patch, so that no dot or line runs through the text; `frame` is the colour of one, where there is one.
function drawLabel(context, { text, x0, x1, y0, y1 }, colour, patch, frame) {
  context.beginPath();
  context.roundRect(x0, y0, x1 - x0, y1 - y0, 3);
  context.fillStyle = patch;
  context.fill();
  if (frame) {
    context.strokeStyle = frame;
    context.stroke();
  }
  Object.assign(context, { fillStyle: colour, textAlign: "center", textBaseline: "middle" });
  context.fillText(text, (x0 + x1) / 2, (y0 + y1) / 2);
}

// The chosen token and lines to its neighbours, on the upper canvas alone.
function drawLight() {
  const canvas = find(".em-light");
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  const from = state.places.get(state.chosen);
  if (!from) return;
  const { ink, page, lit } = state.colours;
  const near = (state.listed?.ids ?? []).filter((id) => state.places.has(id));
  const frameOf = (id) => state.map.prompt.includes(id) && ink;
  context.font = labelFont();
  context.strokeStyle = ink;
  context.globalAlpha = 0.4;
  for (const id of near) {
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.lineTo(state.places.get(id).x, state.places.get(id).y);
    context.stroke();
  }
  context.globalAlpha = 1;
  for (const id of near.reverse()) drawLabel(context, labelBox(context, id), ink, page, frameOf(id));
  context.font = `bold ${labelFont()}`;
  drawLabel(context, labelBox(context, state.chosen), lit, page, lit);
}

// ---- Which token ----

// The one that is pinned stays until another is; what the pointer rests on is shown meanwhile.
function pin(id) {
  state.pinned = id;
  choose(id);
}

let resting = 0;

function chooseSoon(id) {
  clearTimeout(resting);
  resting = setTimeout(() => state.map && id !== state.chosen && choose(id), REST_MS);
}

async function choose(id) {
  clearTimeout(resting);
  const { map } = state;
  Object.assign(state, { chosen: id, listed: null });
  tellChosen();
  drawLight();
  const answer = await (state.nearest.get(id) ?? fetchNearest(id));
  if (map !== state.map || id !== state.chosen) return;
  if (answer.error) find(".em-chosen").textContent = answer.error;
  state.listed = answer.error ? null : answer;
  find("tbody").replaceChildren(...(state.listed?.ids ?? []).map((_, rank) => neighbour(answer, rank)));
  drawLight();
  element.dataset.chosen = id;
}

function fetchNearest(id) {
  const { nearest, texts } = state;
  const answer = ask(() => server.nearest([props.value.id, id])).then((sent) => {
    if (sent.error) nearest.delete(id); // so that the next look tries again
    else sent.ids.forEach((other, i) => texts.set(other, sent.texts[i]));
    return sent;
  });
  nearest.set(id, answer);
  return answer;
}

function tellChosen() {
  const i = state.map.ids.indexOf(state.chosen);
  const [x, y] = state.map.points.subarray(2 * i, 2 * i + 2);
  const where = i < 0 ? "not in the picture" : `at ${number(x)}, ${number(y)}`;
  find(".em-chosen").replaceChildren(
    "Nearest to ", make("bdi", "", visible(state.texts.get(state.chosen))), `, id ${state.chosen}, ${where}:`,
  );
}

function neighbour({ ids, texts, cosines }, rank) {
  const button = make("button", "em-token look-link", visible(texts[rank]));
  button.type = "button";
  button.dataset.id = ids[rank];
  button.title = visible(texts[rank]);
  const name = make("th");
  name.scope = "row";
  name.append(button);
  const cosine = make("td", "look-bar", number(cosines[rank]));
  cosine.style.setProperty("--share", Math.max(0, cosines[rank]));
  const row = make("tr");
  row.append(name, make("td", "", String(ids[rank])), cosine);
  return row;
}

// The id of the token on the map that is nearest to the pointer, or null.
function tokenUnder(event) {
  const box = find(".em-light").getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  let [best, least] = [null, NEAR];
  for (const [id, place] of state.places) {
    const distance = Math.hypot(place.x - x, place.y - y);
    if (distance < least) [best, least] = [id, distance];
  }
  return best;
}

const DIRECTIONS = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };

// The next token in the arrow's direction: what lies aside counts as three times as far.
function moveOnMap(event) {
  const direction = DIRECTIONS[event.key];
  if (!direction || !state.map) return;
  event.preventDefault();
  const from = state.places.get(state.pinned) ?? state.places.get(state.map.ids[0]);
  let [best, least] = [null, Infinity];
  for (const [id, { x, y }] of state.places) {
    const ahead = (x - from.x) * direction[0] + (y - from.y) * direction[1];
    const aside = Math.abs((x - from.x) * direction[1] + (y - from.y) * direction[0]);
    if (ahead > 0.01 && ahead + 3 * aside < least) [best, least] = [id, ahead + 3 * aside];
  }
  if (best !== null) pin(best);
}

// The token that reads as typed, or else begins so, or else has it somewhere; a space may be typed as such or left out.
function search() {
  const wanted = visible(find(".em-search").value);
  if (!wanted || !state.map) return;
  const texts = state.map.texts.map(visible);
  const rules = [
    (text) => text === wanted,
    (text) => text === `·${wanted}`,
    (text) => text.startsWith(wanted),
    (text) => text.includes(wanted),
  ];
  const found = rules.map((rule) => texts.findIndex(rule)).find((i) => i >= 0);
  if (found === undefined) find(".em-chosen").textContent = "No token in the picture reads like that.";
  else pin(state.map.ids[found]);
}

// ---- Positions ----

const tableMap = heatMap(find(".em-table"));
const similarityMap = heatMap(find(".em-similarity"));
const WORDS = {
  none: "This model has no positions: only the causal mask tells order, since a token sees those before it and none after.",
  learned: "Before the first layer each token's embedding gets a vector added that says where it stands: one row of a " +
    "table, whose numbers were learned in training like all others.",
  sinusoidal: "Before the first layer each token's embedding gets a vector added that says where it stands: one row of a " +
    "table of sines and cosines, of which nothing is learned.",
  rotary: "Nothing is added to the embeddings. In every head each pair of numbers of a query or key is turned, like the " +
    "hand of a dial, by an angle that grows with the position: the first pair fast, the last slowly. So query · key " +
    "depends only on how far apart the two stand.",
};
const SEEN = {
  learned: "Rows that look alike are places that the model treats alike.",
  sinusoidal: "From top to bottom every column is a wave, sines and cosines in turn; the further right, the longer.",
  rotary: "1 is where a pair began, or a whole turn further; −1 is half a turn away.",
};
const ALIKE = {
  table: "1, on the diagonal, is the same direction, 0 a right angle. A band along the diagonal: places close to each " +
    "other are alike.",
  rotary: "The mean over all pairs of cos(distance × speed of the pair). It is the same all along a diagonal: only the " +
    "distance counts.",
};

function showPositions(positions) {
  const kind = positions?.kind ?? "none";
  find(".em-heats").hidden = find(".em-positions").hidden = !positions;
  find(".em-turn").hidden = kind !== "rotary";
  find(".em-places").textContent = WORDS[kind] + (positions ? thinning(positions) : "");
  if (!positions) return;
  const { rows, columns, T } = positions;
  const table = unpack(positions.table, Float32Array);
  const similarity = unpack(positions.similarity, Float32Array);
  const rotary = kind === "rotary";
  tableMap.show({
    title: rotary ? "Cosine of the angle by which a pair is turned" : `The ${count(T)} vectors`,
    about: SEEN[kind],
    across: rotary ? "pair of numbers" : "number of the vector",
    down: "position",
    rows,
    columns,
    values: rotary ? table.map(Math.cos) : table,
    largest: rotary ? 1 : table.reduce((most, x) => Math.max(most, Math.abs(x)), 0) || 1,
    tell: (row, column, value) => {
      const at = `position ${rows[row] + 1}, ${rotary ? "pair" : "number"} ${columns[column] + 1}:`;
      if (!rotary) return `${at} ${number(value)}`;
      const angle = table[row * columns.length + column];
      return `${at} turned by ${degrees(angle)}, cos ${number(value)}, sin ${number(Math.sin(angle))}`;
    },
  });
  similarityMap.show({
    title: rotary ? "Likeness of one vector, turned for two positions" : "Cosine of the vectors of two positions",
    about: rotary ? ALIKE.rotary : ALIKE.table,
    across: "position",
    down: "position",
    rows,
    columns: rows,
    values: similarity,
    largest: 1,
    tell: (row, column, value) => {
      const distance = Math.abs(rows[row] - rows[column]);
      return `positions ${rows[row] + 1} and ${rows[column] + 1}, ${distance} apart: ${number(value)}`;
    },
  });
  if (rotary) offerDials(rows, columns, table);
}

function thinning({ rows, columns, T, width, kind }) {
  const all = kind === "rotary" ? "pairs" : "numbers";
  const kept = (n, of, word) => (n < of ? [`${count(n)} of ${count(of)} ${word}`] : []);
  const parts = [...kept(rows.length, T, "positions"), ...kept(columns.length, width, all)];
  return parts.length ? ` The pictures show ${parts.join(" and ")}, evenly spaced.` : "";
}

const degrees = (angle) => `${Math.round((angle * 180) / Math.PI)}°`.replace("-", "−");

// Some of the pairs as dials, the hand to the right at the first position and turning against the clock.
function offerDials(rows, columns, angles) {
  const stride = Math.ceil(columns.length / MOST_DIALS);
  const pairs = columns.map((_, i) => i).filter((i) => i % stride === 0);
  const slider = find(".em-position");
  slider.max = rows.length - 1;
  slider.value = rows.findLastIndex((row) => row < state.map.prompt.length); // at first that of the prompt's end
  slider.oninput = () => {
    const row = Number(slider.value);
    const angle = (i) => angles[row * columns.length + i];
    find(".em-turn output").textContent = rows[row] + 1;
    find(".em-dials").replaceChildren(...pairs.map((i) => dial(columns[i], angle(i))));
    find(".em-dials").ariaLabel = pairs.map((i) => `pair ${columns[i] + 1} turned by ${degrees(angle(i))}`).join(", ");
  };
  slider.oninput();
}

function dial(pair, angle) {
  const node = make("span", "em-dial");
  const hand = make("i");
  hand.style.setProperty("--turn", `${angle}rad`);
  node.append(hand, `${pair + 1}`);
  node.title = `pair ${pair + 1} turned by ${degrees(angle)}`;
  return node;
}

// ---- Events ----

const light = find(".em-light");
light.addEventListener("pointermove", (event) => {
  if (event.pointerType !== "touch") chooseSoon(tokenUnder(event) ?? state.pinned);
});
light.addEventListener("pointerleave", () => chooseSoon(state.pinned));
light.addEventListener("click", (event) => {
  const id = tokenUnder(event);
  if (id !== null) pin(id);
});
light.addEventListener("keydown", moveOnMap);
find(".em-search").addEventListener("input", search);
find("tbody").addEventListener("click", (event) => {
  const button = event.target.closest(".em-token");
  if (button) pin(Number(button.dataset.id));
});
onTheme(paint);
new ResizeObserver(paint).observe(find(".em-stage"));
for (const place of element.querySelectorAll(".figure-buttons")) {
  offerFigure(place, (kind) => server.figure([props.value.id, place.dataset.what, kind]));
}
watch("value", load);
load();
