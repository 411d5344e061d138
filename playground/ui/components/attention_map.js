// Heads are [layer, head] and cells {query, key}, both counted from 0; what is read on the page counts from 1.
// Head -1 is the average over a layer's heads, layer -1 (then head is -1 too) the average over all.

const AVERAGE = -1;
const FIRST = [0, 0]; // the head that is locked, as the server has it, when a trace is new
const REST_MS = 60; // how long the pointer rests before a preview: sweeping over the grid loads nothing
const GRID_HEIGHT = 520; // about as high as the large map beside it
const LABEL_FONT = { largest: 12, smallest: 9 };
const TITLE_SPACE = 20; // for an axis title
const LABEL_GAP = 8; // between a label and the map
const NUMBER_SPACE = 24; // for positions, where the tokens do not fit
const COARSE_SIDE = 32; // thumbnails up to here are enlarged, so their cells may have sharp edges
const THIN = 7; // what is lit looks at least this thick
const LEGEND_TICKS = [0, 0.1, 0.25, 0.5, 1];
const EMPTY = "Type a prompt and press Show attention.";
const HINT = "Point at a cell of the map, or at a token of the prompt, to read its weights.";

const state = {
  requests: 0, // how many traces were asked for: only the last one's answer counts
  trace: null, // what pack_grid sent, with its id
  heads: new Map(), // "layer,head" -> promise of its weights (T, T), or of an error
  locked: null, // the chosen head
  wanted: null, // the head last asked for; it is shown once its weights are here
  shown: null, // the weights (T, T) in the large map
  plot: null, // where in the large canvas what stands
  cell: null, // what is lit: {query, key}, key null for a whole row
  cursor: null, // the cell that the keyboard or a click is on
  tokens: [], // the prompt's buttons
  colours: null,
  painted: 0,
};

const PARTS = [
  "note", "body", "grid", "scale", "layer", "head", "preview", "stage", "map", "light", "fault",
  "readout", "strip",
];
const ui = Object.fromEntries(PARTS.map((name) => [name, element.querySelector(`.am-${name}`)]));

const clamp = (number, low, high) => Math.min(Math.max(number, low), high);
const same = (a, b) => Boolean(a && b) && a[0] === b[0] && a[1] === b[1];

function headName([layer, head]) {
  if (layer === AVERAGE) return "Average of all heads";
  if (head === AVERAGE) return `Layer ${layer + 1}, average of heads`;
  return `Layer ${layer + 1}, Head ${head + 1}`;
}

// ---- Loading a trace ----

async function load() {
  const request = ++state.requests;
  const id = props.value?.id;
  if (!id) return clear(EMPTY);
  const answer = await ask(() => server.grid([id, ...(state.locked ?? FIRST)]));
  if (request !== state.requests) return;
  if (answer.error) return clear(answer.error);
  begin({ ...answer, id, thumbs: unpack(answer.thumbs, Uint8Array) });
}

function clear(sentence) {
  state.trace = state.shown = state.wanted = state.locked = null;
  for (const name of ["layers", "heads", "tokens", "locked", "shown"]) delete element.dataset[name];
  ui.note.textContent = sentence;
  ui.note.hidden = false;
  ui.body.hidden = true;
}

function begin(trace) {
  const { layer, head, weights } = trace.first;
  const heads = new Map([[`${layer},${head}`, Promise.resolve({ weights: unpack(weights, Float32Array) })]]);
  Object.assign(state, { trace, heads, shown: null, cell: null, cursor: null, locked: FIRST });
  const sameShape = element.dataset.layers === String(trace.layers) && element.dataset.heads === String(trace.heads);
  Object.assign(element.dataset, { layers: trace.layers, heads: trace.heads, tokens: trace.T });
  ui.note.hidden = true;
  ui.body.hidden = false;
  styleGrid();
  if (!sameShape) {
    buildGrid();
    buildSelects();
  }
  buildStrip();
  paintThumbs();
  light(null);
  lock([layer, head]);
}

function fetchHead(pair) {
  const key = String(pair);
  const { trace, heads } = state;
  const answer = ask(() => server.head([trace.id, ...pair])).then((sent) => {
    if (!sent.error) return { weights: unpack(sent.weights, Float32Array) };
    heads.delete(key); // so that the next look tries again
    return sent;
  });
  heads.set(key, answer);
  return answer;
}

// ---- Which head is locked, which is shown ----

function lock(pair) {
  const changed = !same(pair, state.locked);
  state.locked = pair;
  element.dataset.locked = String(pair);
  markLocked();
  show(pair);
  if (changed) trigger("pick", { layer: pair[0], head: pair[1] });
}

let resting = 0;

async function show(pair) {
  const { trace, heads } = state;
  clearTimeout(resting);
  state.wanted = pair;
  const answer = await (heads.get(String(pair)) ?? fetchHead(pair));
  if (trace !== state.trace || !same(pair, state.wanted)) return;
  markShown(pair);
  if (state.shown && state.shown === answer.weights) return;
  state.shown = answer.weights ?? null;
  ui.fault.hidden = !answer.error;
  ui.fault.textContent = answer.error ?? "";
  redrawMap();
}

// Without a head: the locked one again.
function showSoon(pair) {
  clearTimeout(resting);
  resting = setTimeout(() => state.trace && show(pair ?? state.locked), REST_MS);
}

function headOf(node) {
  const thumb = node.closest(".am-thumb");
  return thumb && [Number(thumb.dataset.layer), Number(thumb.dataset.head)];
}

function markLocked() {
  const [layer, head] = state.locked;
  ui.layer.value = layer;
  ui.head.value = head;
  ui.head.disabled = layer === AVERAGE;
  for (const thumb of thumbs()) thumb.ariaPressed = String(same(headOf(thumb), state.locked));
  setTabStop(thumbs(), thumbs().find((thumb) => thumb.ariaPressed === "true") ?? thumbs()[0]);
}

function markShown(pair) {
  element.dataset.shown = String(pair);
  for (const thumb of thumbs()) thumb.classList.toggle("am-shown", same(headOf(thumb), pair));
  ui.preview.textContent = same(pair, state.locked) ? "" : `preview: ${headName(pair)}`;
  ui.light.ariaLabel = `Weights of ${headName(pair)}. The arrow keys move the cell.`;
}

// ---- The grid of all heads ----

const thumbs = () => [...ui.grid.querySelectorAll(".am-thumb")];

function styleGrid() {
  const { layers, heads, side } = state.trace;
  const largest = clamp(Math.floor(GRID_HEIGHT / layers), 44, 130);
  ui.grid.style.gridTemplateColumns = `max-content repeat(${heads}, minmax(28px, ${largest}px))`;
  ui.grid.classList.toggle("am-fine", side > COARSE_SIDE);
}

function buildGrid() {
  const { layers, heads } = state.trace;
  ui.grid.replaceChildren(make("span"));
  for (let head = 0; head < heads; head++) ui.grid.append(columnTitle(head));
  for (let layer = 0; layer < layers; layer++) {
    ui.grid.append(make("span", "am-row", `Layer ${layer + 1}`));
    for (let head = 0; head < heads; head++) ui.grid.append(thumb(layer, head));
  }
}

function columnTitle(head) {
  const title = make("span", "am-column");
  title.append(make("span", "", "Head "), String(head + 1));
  return title;
}

function thumb(layer, head) {
  const button = make("button", "am-thumb");
  button.type = "button";
  button.ariaLabel = headName([layer, head]);
  Object.assign(button.dataset, { layer, head });
  button.append(make("canvas"));
  return button;
}

function paintThumbs() {
  const { side, thumbs: levels } = state.trace;
  let next = 0; // they stand in the order in which cells are drawn
  for (const button of thumbs()) drawCells(button.firstChild, side, () => levels[next++]);
}

// Only one of a group of buttons is reached with Tab; the arrow keys move on from there.
function setTabStop(buttons, stop) {
  for (const button of buttons) button.tabIndex = button === stop ? 0 : -1;
}

function focusOn(buttons, stop) {
  setTabStop(buttons, stop);
  stop.focus();
}

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

function moveInGrid(event) {
  const step = ARROWS[event.key];
  const at = headOf(event.target);
  if (!step || !at) return;
  event.preventDefault();
  const layer = clamp(at[0] + step[0], 0, state.trace.layers - 1);
  const head = clamp(at[1] + step[1], 0, state.trace.heads - 1);
  focusOn(thumbs(), thumbs()[layer * state.trace.heads + head]);
}

// ---- The selects ----

function buildSelects() {
  const { layers, heads } = state.trace;
  fillSelect(ui.layer, "Average of layers", "Layer", layers);
  fillSelect(ui.head, "Average of heads", "Head", heads);
}

function fillSelect(select, average, word, count) {
  const options = [new Option(average, AVERAGE)];
  for (let i = 0; i < count; i++) options.push(new Option(`${word} ${i + 1}`, i));
  select.replaceChildren(...options);
}

function lockSelected() {
  const layer = Number(ui.layer.value);
  lock([layer, layer === AVERAGE ? AVERAGE : Number(ui.head.value)]);
}

// ---- Colours ----

function readColours() {
  const stops = [0, 1, 2, 3, 4].map((i) => rgb(`--am-${i}`));
  const levels = Array.from({ length: 256 }, (_, step) => mix(stops, step / 255));
  state.colours = {
    pixels: Uint32Array.from(levels, ([r, g, b]) => (255 << 24) | (b << 16) | (g << 8) | r),
    fills: levels.map((parts) => `rgb(${parts})`),
    inks: levels.map((parts) => (lightness(parts) > 0.45 ? "#111827" : "#ffffff")),
    text: `rgb(${rgb("--body-text-color")})`,
    quiet: `rgba(${rgb("--body-text-color")}, 0.68)`,
    page: rgb("--background-fill-primary"),
    lit: `rgb(${rgb("--am-lit")})`,
  };
}

function mix(stops, position) {
  const at = position * (stops.length - 1);
  const i = Math.min(Math.floor(at), stops.length - 2);
  return stops[i].map((part, channel) => Math.round(part + (at - i) * (stops[i + 1][channel] - part)));
}

// 0 black to 1 white, roughly as the eye has it.
function lightness([r, g, b]) {
  return (0.3 * r + 0.59 * g + 0.11 * b) / 255;
}

// The step 0..255 of the colours for a weight 0..1.
function level(weight) {
  return Math.min(255, Math.round(Math.sqrt(weight) * 255));
}

// One pixel a cell. What the causal mask hides stays transparent, so that it never looks like a weight of zero.
function drawCells(canvas, side, levelOf) {
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  const image = context.createImageData(side, side);
  const pixels = new Uint32Array(image.data.buffer);
  for (let query = 0; query < side; query++) {
    for (let key = 0; key <= query; key++) {
      const cell = query * side + key;
      pixels[cell] = state.colours.pixels[levelOf(cell)];
    }
  }
  context.putImageData(image, 0, 0);
}

function buildScale() {
  for (const tick of LEGEND_TICKS) {
    const label = make("span", "", String(tick));
    label.style.left = `${Math.sqrt(tick) * 100}%`;
    ui.scale.append(label);
  }
}

// ---- The large map ----

function paintMap() {
  const side = ui.stage.clientWidth;
  for (const canvas of [ui.map, ui.light]) prepare(canvas, side);
  if (!state.shown || !side) return;
  const context = ui.map.getContext("2d");
  state.plot = layOut(context, side);
  drawHatch(context);
  drawWeights(context);
  drawGaps(context);
  drawTitles(context);
  drawLabels(context);
  element.dataset.painted = ++state.painted;
}

// Sized to the screen's own pixels and cleared; from here on one unit is one CSS pixel.
function prepare(canvas, side) {
  const ratio = window.devicePixelRatio;
  canvas.width = canvas.height = Math.round(side * ratio);
  canvas.getContext("2d").scale(ratio, ratio);
}

// The map is a square at the bottom right; above and left of it stand the labels, then the axis titles.
function layOut(context, side) {
  const { T, tokens } = state.trace;
  const family = getComputedStyle(element).getPropertyValue("--font-mono");
  const texts = tokens.map(visible);
  context.font = `${LABEL_FONT.largest}px ${family}`;
  const widest = Math.max(...texts.map((text) => context.measureText(text).width));
  const room = Math.min(Math.ceil(widest), Math.floor(side * 0.2));
  const size = Math.floor(((side - TITLE_SPACE - room - LABEL_GAP) / T) * 0.85);
  if (size < LABEL_FONT.smallest) return numbered(side, family);
  context.font = `${Math.min(size, LABEL_FONT.largest)}px ${family}`;
  const labels = texts.map((text) => shorten(context, text, room));
  return geometry(side, room, context.font, labels, 1);
}

// Where the tokens do not fit: their positions, as many as there is room for.
function numbered(side, family) {
  const { T } = state.trace;
  const every = [5, 10, 20, 50, 100, 200, 500].find((step) => (step * side) / T >= 40);
  const labels = Array.from({ length: T }, (_, i) => String(i + 1));
  return geometry(side, NUMBER_SPACE, `11px ${family}`, labels, every);
}

function geometry(side, room, font, labels, every) {
  const start = TITLE_SPACE + room + LABEL_GAP; // of the map, both across and down
  const width = side - start - 1;
  return { start, width, cell: width / state.trace.T, font, labels, every };
}

function shorten(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  const letters = Array.from(text);
  while (letters.length && context.measureText(letters.join("") + "…").width > width) letters.pop();
  return letters.join("") + "…";
}

// Hatches the whole square; the weights are painted over all of it but the masked half.
function drawHatch(context) {
  const { start, width } = state.plot;
  context.save();
  context.beginPath();
  context.rect(start, start, width, width);
  context.clip();
  context.beginPath();
  for (let x = 0; x < 2 * width; x += 7) {
    context.moveTo(start + x, start);
    context.lineTo(start + x - width, start + width);
  }
  context.strokeStyle = state.colours.text;
  context.globalAlpha = 0.14;
  context.stroke();
  context.restore();
}

function drawWeights(context) {
  const { start, width, cell } = state.plot;
  const weights = state.shown;
  const cells = make("canvas");
  drawCells(cells, state.trace.T, (i) => level(weights[i]));
  context.imageSmoothingEnabled = cell * window.devicePixelRatio < 1; // else whole cells would be dropped
  context.drawImage(cells, start, start, width, width);
}

// Hair lines between cells that are large enough to be counted.
function drawGaps(context) {
  const { start, width, cell } = state.plot;
  if (cell < 12) return;
  context.fillStyle = pageColour(1);
  for (let i = 1; i < state.trace.T; i++) {
    const at = Math.round(start + i * cell);
    context.fillRect(at, start, 1, width);
    context.fillRect(start, at, width, 1);
  }
}

function pageColour(opacity) {
  return `rgba(${state.colours.page}, ${opacity})`;
}

function drawTitles(context) {
  const { start, width } = state.plot;
  const middle = start + width / 2;
  context.font = `12px ${getComputedStyle(element).fontFamily}`;
  context.fillStyle = state.colours.text;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText("key (attended to)", middle, 8);
  turned(context, 8, middle, () => context.fillText("query (attends from)", 0, 0));
}

function drawLabels(context) {
  for (let i = 0; i < state.trace.T; i++) {
    if (i > 0 && (i + 1) % state.plot.every) continue;
    drawQueryLabel(context, i, state.colours.quiet);
    drawKeyLabel(context, i, state.colours.quiet);
  }
}

function drawQueryLabel(context, query, colour) {
  const { start, cell, font, labels } = state.plot;
  Object.assign(context, { font, fillStyle: colour, textAlign: "right", textBaseline: "middle" });
  context.fillText(labels[query], start - LABEL_GAP + 2, start + (query + 0.5) * cell);
}

function drawKeyLabel(context, key, colour) {
  const { start, cell, font, labels } = state.plot;
  Object.assign(context, { font, fillStyle: colour, textAlign: "left", textBaseline: "middle" });
  turned(context, start + (key + 0.5) * cell, start - LABEL_GAP + 2, () => context.fillText(labels[key], 0, 0));
}

// Draws with (0, 0) at (x, y) and the text running upwards.
function turned(context, x, y, draw) {
  context.save();
  context.translate(x, y);
  context.rotate(-Math.PI / 2);
  draw();
  context.restore();
}

// ---- What is lit: a cell with its row and column, or a token's whole row ----

// Draws on the upper canvas alone: the map below it is left as it is.
function light(cell) {
  const otherRow = cell?.query !== state.cell?.query;
  state.cell = state.shown && cell;
  drawLight();
  if (otherRow) colourStrip();
  markTokens();
  tellCell();
}

let frame = 0;

// Several pointer events of one frame draw once.
function lightSoon(cell) {
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(() => state.trace && light(cell));
}

// When the pointer leaves, what the keyboard is on is lit again.
function restingCell() {
  const focused = document.activeElement;
  if (focused === ui.light) return state.cursor;
  return ui.strip.contains(focused) ? { query: tokenAt(focused), key: null } : null;
}

function drawLight() {
  const context = ui.light.getContext("2d");
  context.clearRect(0, 0, ui.light.width, ui.light.height);
  if (!state.cell) return;
  const { query, key } = state.cell;
  const { start, width, cell } = state.plot;
  veil(context);
  lightBand(context, start, start + query * cell, width, cell);
  coverLabel(context, query, false);
  drawQueryLabel(context, query, state.colours.lit);
  if (key === null) return;
  lightBand(context, start + key * cell, start, cell, width);
  coverLabel(context, key, true);
  drawKeyLabel(context, key, state.colours.lit);
  outlineCell(context, query, key);
}

function veil(context) {
  const { start, width } = state.plot;
  context.fillStyle = pageColour(0.6);
  context.fillRect(start, start, width, width);
}

// A row or column without veil; one too thin to be seen gets lines along its sides.
function lightBand(context, x, y, width, height) {
  context.clearRect(x, y, width, height);
  const missing = Math.max(0, THIN - Math.min(width, height)) / 2;
  if (!missing) return;
  const [dx, dy] = width > height ? [0, missing] : [missing, 0];
  context.strokeStyle = state.colours.lit;
  context.lineWidth = 0.5;
  context.strokeRect(x - dx, y - dy, width + 2 * dx, height + 2 * dy);
}

// Hides a label, and what stands close to it, before it is drawn in the colour of what is lit.
function coverLabel(context, i, isKey) {
  const { start, cell } = state.plot;
  const thickness = 15;
  const along = start + (i + 0.5) * cell - thickness / 2;
  const length = start - TITLE_SPACE;
  context.fillStyle = pageColour(1);
  if (isKey) context.fillRect(along, TITLE_SPACE, thickness, length);
  else context.fillRect(TITLE_SPACE, along, length, thickness);
}

function outlineCell(context, query, key) {
  const { start, cell } = state.plot;
  const size = Math.max(cell, THIN);
  const at = (i) => start + (i + 0.5) * cell - size / 2;
  context.strokeStyle = state.colours.lit;
  context.lineWidth = 2;
  context.strokeRect(at(key), at(query), size, size);
}

function cellUnder(event) {
  if (!state.shown) return null;
  const box = ui.light.getBoundingClientRect();
  const { start, cell } = state.plot;
  const [key, query] = [event.clientX - box.left, event.clientY - box.top].map((at) => Math.floor((at - start) / cell));
  const inside = Math.min(query, key) >= 0 && Math.max(query, key) < state.trace.T;
  return inside ? { query, key } : null;
}

function moveInMap(event) {
  const step = ARROWS[event.key];
  if (!step || !state.shown) return;
  event.preventDefault();
  const { query, key } = cursor();
  const last = state.trace.T - 1;
  putCursor({ query: clamp(query + step[0], 0, last), key: clamp(key + step[1], 0, last) });
}

// At first the last token looking at itself.
function cursor() {
  const last = state.trace.T - 1;
  return state.cursor ?? { query: last, key: last };
}

function putCursor(cell) {
  state.cursor = cell;
  lightSoon(cell);
}

// ---- The readout ----

function tellCell() {
  const { cell } = state;
  const facts = ui.readout.dataset;
  for (const name of ["query", "key", "weight"]) delete facts[name];
  if (!cell) return ui.readout.replaceChildren(HINT);
  facts.query = cell.query;
  if (cell.key === null) return ui.readout.replaceChildren(...rowSentence(cell.query));
  facts.key = cell.key;
  facts.weight = weightAt(cell.query, cell.key);
  ui.readout.replaceChildren(...cellSentence(cell.query, cell.key));
}

function cellSentence(query, key) {
  const masked = key > query ? " (masked: it comes later)" : "";
  return ["query ", ...tokenName(query), " → key ", ...tokenName(key), " weight ", bold(query, key), masked];
}

function rowSentence(query) {
  const keys = Array.from({ length: query + 1 }, (_, key) => key);
  const most = keys.sort((a, b) => weightAt(query, b) - weightAt(query, a)).slice(0, 3);
  const parts = most.flatMap((key, i) => [i ? ", " : " ", ...tokenName(key), " ", bold(query, key)]);
  return ["query ", ...tokenName(query), " attends most to", ...parts];
}

function tokenName(i) {
  return [`${i + 1} `, make("bdi", "", visible(state.trace.tokens[i]))];
}

function bold(query, key) {
  return make("b", "", weightAt(query, key).toFixed(3));
}

function weightAt(query, key) {
  return state.shown[query * state.trace.T + key];
}

// ---- The prompt's tokens ----

const tokenAt = (node) => Number(node.dataset.token);

function buildStrip() {
  const parts = state.trace.tokens.flatMap((text, i) => {
    const token = make("button", "am-token");
    token.type = "button";
    token.dataset.token = i;
    token.append(make("bdi", "", visible(text)));
    return text.includes("\n") ? [token, make("br")] : [token];
  });
  ui.strip.replaceChildren(...parts);
  state.tokens = [...ui.strip.querySelectorAll(".am-token")];
  setTabStop(state.tokens, state.tokens[0]);
}

// Each token in the colour of the weight that the lit query gives it.
function colourStrip() {
  const query = state.shown && state.cell ? state.cell.query : null;
  state.tokens.forEach((token, key) => colourToken(token, query, key));
}

function colourToken(token, query, key) {
  const seen = query !== null && key <= query;
  const step = seen ? level(weightAt(query, key)) : null;
  token.style.background = seen ? state.colours.fills[step] : "";
  token.style.color = seen ? state.colours.inks[step] : "";
  token.classList.toggle("am-future", query !== null && !seen);
  token.title = tokenTitle(query, key);
}

function tokenTitle(query, key) {
  const name = `token ${key + 1}, id ${state.trace.ids[key]}`;
  if (query === null) return name;
  return `${name}: ${key > query ? "masked" : `weight ${weightAt(query, key).toFixed(3)}`}`;
}

function markTokens() {
  for (const name of ["query", "key"]) {
    ui.strip.querySelector(`.am-${name}`)?.classList.remove(`am-${name}`);
    state.tokens[state.cell?.[name]]?.classList.add(`am-${name}`);
  }
}

function tokenUnder(event) {
  const token = event.target.closest(".am-token");
  return token && { query: tokenAt(token), key: null };
}

function moveInStrip(event) {
  const step = ARROWS[event.key];
  const token = event.target.closest(".am-token");
  if (!step || !token) return;
  event.preventDefault();
  focusOn(state.tokens, state.tokens[clamp(tokenAt(token) + step[0] + step[1], 0, state.trace.T - 1)]);
}

// ---- Events ----

function listenToGrid() {
  ui.grid.addEventListener("pointerover", (event) => {
    if (event.pointerType !== "touch") showSoon(headOf(event.target)); // a finger that touches means to click
  });
  ui.grid.addEventListener("pointerleave", () => showSoon(null));
  ui.grid.addEventListener("focusin", (event) => showSoon(headOf(event.target)));
  ui.grid.addEventListener("focusout", () => showSoon(null));
  ui.grid.addEventListener("keydown", moveInGrid);
  ui.grid.addEventListener("click", (event) => {
    const pair = headOf(event.target);
    if (pair) lock(pair);
  });
  for (const select of [ui.layer, ui.head]) select.addEventListener("change", lockSelected);
}

function listenToMap() {
  ui.light.addEventListener("pointermove", (event) => lightSoon(cellUnder(event) ?? restingCell()));
  ui.light.addEventListener("pointerdown", (event) => {
    const cell = cellUnder(event);
    if (cell) putCursor(cell);
  });
  ui.light.addEventListener("pointerleave", () => lightSoon(restingCell()));
  ui.light.addEventListener("focus", () => putCursor(cursor()));
  ui.light.addEventListener("blur", () => lightSoon(null));
  ui.light.addEventListener("keydown", moveInMap);
}

function listenToStrip() {
  ui.strip.addEventListener("pointerover", (event) => lightSoon(tokenUnder(event) ?? restingCell()));
  ui.strip.addEventListener("pointerleave", () => lightSoon(restingCell()));
  ui.strip.addEventListener("focusin", (event) => lightSoon(tokenUnder(event)));
  ui.strip.addEventListener("focusout", () => lightSoon(null));
  ui.strip.addEventListener("keydown", moveInStrip);
}

function redraw() {
  readColours();
  if (!state.trace) return;
  paintThumbs();
  redrawMap();
}

function redrawMap() {
  if (!state.trace) return;
  paintMap();
  colourStrip();
  light(state.cell);
}

buildScale();
readColours();
listenToGrid();
listenToMap();
listenToStrip();
onTheme(redraw);
new ResizeObserver(redrawMap).observe(ui.stage);
watch("value", load);
load();
