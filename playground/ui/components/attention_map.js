// Heads are [layer, head] and cells {query, key}, both counted from 0; what is read on the page counts from 1.
// Head -1 is the average over a layer's heads, layer -1 (then head is -1 too) the average over all.

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
const ALL_BY_BADGE = "*";
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
  thumbs: [], // the buttons of all heads, those of the first layer first
  arranged: "", // the choice by which they stand in the grid; "" is by layer
  badges: null, // what each head is for, a list a layer; null until the server has said so
  tokens: [], // the prompt's buttons
  colours: null,
  painted: 0,
};

const PARTS = [
  "note", "body", "which", "grid", "scale", "layer", "head", "preview", "stage", "map", "light", "fault",
  "readout", "strip",
];
const ui = Object.fromEntries(PARTS.map((name) => [name, element.querySelector(`.am-${name}`)]));

const inCourse = Boolean(element.closest(".course-part"));
const clamp = (number, low, high) => Math.min(Math.max(number, low), high);
const same = (a, b) => Boolean(a && b) && a[0] === b[0] && a[1] === b[1];

// ---- Loading a trace ----

async function load() {
  const id = props.value?.id;
  if (id && id === state.trace?.id) return; // it was told which head is picked
  const request = ++state.requests;
  if (!id) return clear(EMPTY);
  if (inCourse && !isOf(element.closest(".course").dataset.section)) return; // until its section is shown
  const answer = await ask(() => server.grid([id, ...(state.locked ?? askedHead())]));
  if (request !== state.requests) return;
  if (answer.error) return clear(answer.error);
  begin({ ...answer, id, thumbs: unpack(answer.thumbs, Uint8Array) });
}

// In the address layers and heads are counted from 1, as on the page; 0 is an average.
function askedHead() {
  if (!props.value.linked) return [0, 0];
  const pair = ["layer", "head"].map((name) => (/^\d{1,3}$/.test(asked(name)) ? Number(asked(name)) - 1 : 0));
  return pair[0] === AVERAGE ? [AVERAGE, AVERAGE] : pair;
}

// One map of a page is the one that its address tells of.
const link = (shown) => props.value.linked && putIntoAddress(shown);

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
  ui.grid.classList.toggle("am-fine", trace.side > COARSE_SIDE);
  if (!sameShape) {
    buildThumbs();
    buildSelects();
  }
  if (!sameShape || element.dataset.model !== props.value.model) takeBadges(null);
  buildStrip();
  paintThumbs();
  light(null);
  const { shipped, prompt } = props.value;
  link({ model: shipped, prompt });
  lock([layer, head]);
  if (!state.badges) loadBadges(trace, props.value.model);
}

// Last of all, and once for a model: they are measured without the prompt.
async function loadBadges(trace, model) {
  const badges = await ask(() => server.badges(trace.id));
  if (trace !== state.trace || badges.error) return;
  takeBadges(badges);
  element.dataset.model = model;
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
  link({ layer: pair[0] + 1, head: pair[1] + 1 });
  markLocked();
  show(pair);
  if (!changed) return;
  // In the value, not as the event's data: of several picks in a row Gradio sends the last one with the first one's data.
  props.value = { ...props.value, layer: pair[0], head: pair[1] };
  trigger("pick");
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
  for (const thumb of state.thumbs) thumb.ariaPressed = String(same(headOf(thumb), state.locked));
  setGridStop();
}

function setGridStop() {
  const inGrid = shownThumbs();
  setTabStop(inGrid, inGrid.find((thumb) => thumb.ariaPressed === "true") ?? inGrid[0]);
}

function markShown(pair) {
  element.dataset.shown = String(pair);
  for (const thumb of state.thumbs) thumb.classList.toggle("am-shown", same(headOf(thumb), pair));
  ui.preview.textContent = same(pair, state.locked) ? "" : `preview: ${headName(pair)}`;
  ui.light.ariaLabel = `Weights of ${headName(pair)}. The arrow keys move the cell.`;
}

// ---- The grid of all heads ----

const shownThumbs = () => [...ui.grid.querySelectorAll(".am-thumb")]; // in the order in which they stand

function buildThumbs() {
  const { layers, heads } = state.trace;
  const places = Array.from({ length: layers * heads }, (_, i) => [Math.floor(i / heads), i % heads]);
  state.thumbs = places.map(([layer, head]) => thumb(layer, head));
  placeThumbs();
}

function thumb(layer, head) {
  const button = make("button", "am-thumb");
  button.type = "button";
  Object.assign(button.dataset, { layer, head });
  button.append(make("canvas"));
  make("div", "am-cell").append(button, make("span", "am-badge"));
  return button;
}

function badgeOf(button) {
  const [layer, head] = headOf(button);
  return state.badges?.[layer][head] ?? "";
}

// What heads are for, as it is known: a choice of them above the grid, and a word below each.
function takeBadges(badges) {
  const chosen = ui.which.value;
  state.badges = badges;
  delete element.dataset.model;
  const counts = new Map();
  for (const badge of (badges ?? []).flat().filter(Boolean).sort()) counts.set(badge, (counts.get(badge) ?? 0) + 1);
  ui.which.replaceChildren(new Option("all, by layer", ""));
  if (counts.size) ui.which.append(new Option("all, by badge", ALL_BY_BADGE));
  for (const [badge, n] of counts) ui.which.append(new Option(`${badge} heads (${n})`, badge));
  ui.which.value = [...ui.which.options].some(({ value }) => value === chosen) ? chosen : "";
  arrange();
}

// By layer the heads form a table. By badge, or some of them alone, they stand one after the other.
function arrange() {
  if (ui.which.value || state.arranged) placeThumbs();
  for (const button of state.thumbs) label(button, Boolean(ui.which.value));
  setGridStop();
}

function placeThumbs() {
  const { layers, heads } = state.trace;
  const wanted = (state.arranged = ui.which.value);
  const largest = clamp(Math.floor(GRID_HEIGHT / layers), 44, 130);
  if (wanted) {
    ui.grid.style.gridTemplateColumns = `repeat(auto-fill, minmax(64px, ${Math.max(largest, 90)}px))`;
    ui.grid.replaceChildren(...chosenThumbs(wanted).map((button) => button.parentElement));
  } else {
    ui.grid.style.gridTemplateColumns = `max-content repeat(${heads}, minmax(28px, ${largest}px))`;
    ui.grid.replaceChildren(make("span"), ...Array.from({ length: heads }, (_, head) => columnTitle(head)));
    for (const button of state.thumbs) {
      const [layer, head] = headOf(button);
      if (head === 0) ui.grid.append(make("span", "am-row", `Layer ${layer + 1}`));
      ui.grid.append(button.parentElement);
    }
  }
}

function chosenThumbs(wanted) {
  if (wanted !== ALL_BY_BADGE) return state.thumbs.filter((button) => badgeOf(button) === wanted);
  const rank = (button) => badgeOf(button) || "\uffff"; // those without one come last
  return [...state.thumbs].sort((a, b) => (rank(a) < rank(b) ? -1 : rank(a) > rank(b) ? 1 : 0));
}

function label(button, withPlace) {
  const pair = headOf(button);
  const badge = badgeOf(button);
  const place = withPlace ? `${pair[0] + 1}.${pair[1] + 1} ` : "";
  button.nextSibling.textContent = place + badge;
  button.ariaLabel = headName(pair);
  button.title = badge ? `${headName(pair)}: ${badge} head` : headName(pair);
}

function columnTitle(head) {
  const title = make("span", "am-column");
  title.append(make("span", "", "Head "), String(head + 1));
  return title;
}

function paintThumbs() {
  const { side, thumbs: levels } = state.trace;
  const n = (side * (side + 1)) / 2; // levels of a head, in the order in which its cells are drawn
  state.thumbs.forEach((button, i) => {
    let next = i * n;
    drawCells(button.firstChild, side, state.colours.pixels, () => levels[next++]);
  });
}

// Only one of a group of buttons is reached with Tab; the arrow keys move on from there.
function setTabStop(buttons, stop) {
  for (const button of buttons) button.tabIndex = button === stop ? 0 : -1;
}

function focusOn(buttons, stop) {
  setTabStop(buttons, stop);
  stop.focus();
}

function moveInGrid(event) {
  const step = ARROWS[event.key];
  const at = headOf(event.target);
  if (!step || !at) return;
  event.preventDefault();
  const inGrid = shownThumbs();
  focusOn(inGrid, ui.which.value ? nextInRow(inGrid, event.target, step) : neighbour(at, step));
}

function neighbour(at, step) {
  const layer = clamp(at[0] + step[0], 0, state.trace.layers - 1);
  const head = clamp(at[1] + step[1], 0, state.trace.heads - 1);
  return state.thumbs[layer * state.trace.heads + head];
}

function nextInRow(inGrid, from, step) {
  return inGrid[clamp(inGrid.indexOf(from) + step[0] + step[1], 0, inGrid.length - 1)];
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
  const levels = heatLevels();
  state.colours = {
    pixels: Uint32Array.from(levels, pixelOf),
    fills: levels.map((parts) => `rgb(${parts})`),
    inks: levels.map((parts) => (lightness(parts) > 0.45 ? "#111827" : "#ffffff")),
    text: `rgb(${rgb("--body-text-color")})`,
    quiet: `rgba(${rgb("--body-text-color")}, 0.68)`,
    page: rgb("--background-fill-primary"),
    lit: `rgb(${rgb("--look-plus")})`,
  };
}

// 0 black to 1 white, roughly as the eye has it.
function lightness([r, g, b]) {
  return (0.3 * r + 0.59 * g + 0.11 * b) / 255;
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
  for (const canvas of [ui.map, ui.light]) prepareCanvas(canvas, side, side);
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
  drawCells(cells, state.trace.T, state.colours.pixels, (i) => level(weights[i]));
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
  ui.which.addEventListener("change", arrange);
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

// Another part of the page asks for a head of the trace that is shown.
function lockChosen(event) {
  if (!element.isConnected) return document.removeEventListener(HEAD_CHOSEN, lockChosen);
  if (state.trace) lock([event.detail.layer, event.detail.head]);
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
document.addEventListener(HEAD_CHOSEN, lockChosen);
onTheme(redraw);
new ResizeObserver(redrawMap).observe(ui.stage);
watch("value", load);
if (inCourse) whileSection(() => state.trace?.id !== props.value?.id && load());
else load();
