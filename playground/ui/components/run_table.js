// The visit's runs side by side: see run_table.py for what the server sends.

const EMPTY = "The page does not know yet whose it is.";
const REFRESH_MS = 2000;
const GROWTH = 1.02; // by which a run has got on before its curves are asked for anew
const HUES = 6;
const DASHES = { solid: [], dashed: [7, 4], dotted: [2, 3] };
const LABEL = { width: 22, height: 13 }; // pixels that the number at a curve's end takes
const NEAR = 40; // pixels; what is further away is not pointed at
const FIRST = [["name", "Run", {}], ["state", "State", {}]];
const RESULTS = [
  ["n_params", "Parameters", {}], ["step", "Steps done", {}], ["tokens", "Tokens seen", {}],
  ["best_loss", "Best validation loss", {}], ["best_step", "at step", {}],
  ["val_loss", "Loss over the whole part", {}], ["bits_per_char", "Bits per character", {}], ["seconds", "Time", {}],
];
const FORMATS = {
  n_params: whole, step: whole, tokens: whole, best_step: whole,
  best_loss: threeDecimals, val_loss: threeDecimals,
  seconds: (s) => (s < 60 ? `${s.toFixed(1)} s` : duration(s)),
  text_sha256: (digest) => `${digest.slice(0, 8)}…`,
};
// What is not in the vocabulary is foreseen in fewer bits than it has.
const bits = (run, number) => (run.n_unknown ? "≥ " : "") + threeDecimals(number);
const LOSSES = ["best_loss", "val_loss", "bits_per_char"];

// Where things stand in a point of a curve.
const STEP = 0;
const SECONDS = 1;
const LOSS = 2;

const find = (selector) => element.querySelector(selector);
const canvas = find(".rt-curves");
const axis = find(".rt-axis");

const state = {
  runs: [], // in the order in which they began
  columns: [], // the settings in which they differ: [name, title, {value: title}]
  lines: new Map(), // the table's line of each run, by its id
  hidden: new Set(), // ids of the runs whose curves are not shown
  reference: null, // the id of the run that the others are measured by
  sorted: { column: null, rising: true },
  heard: {}, // of the run that the loss chart shows
  loads: 0,
  asking: false,
  askedAt: 0,
  cursor: null, // the point that is read: {run, at}
  plot: null,
  colours: null,
};

// ---- What comes from the server ----

const load = loadWhileOpen(EMPTY, () => server.runs([props.value, ""]), (answer) => {
  state.loads += 1;
  state.runs = answer.runs;
  state.columns = answer.columns;
  show();
});

// All runs when one has begun or ended; and the one that gets on, now and then.
function hear({ detail }) {
  if (!element.isConnected) return document.removeEventListener(RUN_SHOWN, hear);
  const before = state.heard;
  state.heard = detail;
  if (!find("details").open) return;
  if (before.run !== detail.run || before.state !== detail.state) return load();
  const known = state.runs.find((run) => run.id === detail.run);
  const due = !state.asking && Date.now() - state.askedAt >= REFRESH_MS;
  if (known && due && detail.step > known.step && detail.step >= GROWTH * known.step) refresh(detail.run);
}

async function refresh(id) {
  const { loads } = state;
  Object.assign(state, { asking: true, askedAt: Date.now() });
  const answer = await ask(() => server.runs([props.value, id]));
  state.asking = false;
  if (answer.error || loads !== state.loads) return; // all of them have come since
  state.runs = state.runs.map((run) => (run.id === id ? answer.runs[0] : run));
  show();
}

function show() {
  const ids = state.runs.map((run) => run.id);
  if (!ids.includes(state.reference)) state.reference = ids[0];
  for (const id of state.lines.keys()) if (!ids.includes(id)) state.lines.delete(id);
  if (state.cursor && !ids.includes(state.cursor.run)) state.cursor = null;
  showTable();
  find(".rt-note").textContent = notes().join(" ");
  draw();
}

const chosen = () => state.runs.find((run) => run.id === state.reference);
const numberOf = (run) => state.runs.indexOf(run) + 1;

// ---- The table ----

const columns = () => [...FIRST, ...state.columns, ...RESULTS];

function showTable() {
  const names = columns().map(([name]) => name);
  if (names.join() !== element.dataset.columns) find("thead tr").replaceChildren(...headCells());
  element.dataset.columns = names.join();
  const { column, rising } = state.sorted;
  for (const button of element.querySelectorAll("thead button")) {
    const direction = rising ? "ascending" : "descending";
    button.parentElement.ariaSort = button.dataset.column === column ? direction : "none";
  }
  const lines = [...state.runs].sort(byColumn).map(lineOf);
  const body = find("tbody"); // which keeps its lines if it can, and with them what has the focus
  if (lines.some((line, i) => body.children[i] !== line) || body.children.length > lines.length) body.replaceChildren(...lines);
}

function headCells() {
  const plain = ["Curve", "Reference"].map((title) => make("th", "", title));
  const sorting = columns().map(([name, title]) => {
    const button = make("button", "look-plain", title);
    button.type = "button";
    button.dataset.column = name;
    button.title = `Sort by ${name}`;
    const cell = make("th");
    cell.append(button);
    return cell;
  });
  for (const cell of [...plain, ...sorting]) cell.scope = "col";
  return [...plain, ...sorting];
}

// What is not known comes last; what is equal stays in the order in which it began.
function byColumn(one, other) {
  const [a, b] = [one, other].map((run) => run[state.sorted.column] ?? null);
  if (a === null || b === null) return (a === null) - (b === null);
  const order = typeof a === "string" ? a.localeCompare(b) : a - b;
  return state.sorted.rising ? order : -order;
}

function lineOf(run) {
  if (!state.lines.has(run.id)) state.lines.set(run.id, newLine(run));
  const line = state.lines.get(run.id);
  const [hue, dash] = styleOf(run);
  line.querySelector(".rt-line").style.cssText = `--hue: var(--run-${hue}); --dash: ${dash}`;
  line.querySelector(".rt-number").textContent = numberOf(run);
  line.querySelector("[type=radio]").checked = run.id === state.reference;
  while (line.children.length > 3) line.lastChild.remove();
  line.append(...columns().slice(1).map((column) => cell(run, column)));
  return line;
}

function newLine(run) {
  const [shown, reference] = ["checkbox", "radio"].map((type) => {
    const input = make("input");
    input.type = type;
    return input;
  });
  shown.checked = !state.hidden.has(run.id);
  shown.ariaLabel = `Show the curve of ${run.name}`;
  shown.addEventListener("change", () => {
    state.hidden[shown.checked ? "delete" : "add"](run.id);
    draw();
  });
  reference.name = "rt-reference";
  reference.ariaLabel = `Measure the others by ${run.name}`;
  reference.addEventListener("change", () => {
    state.reference = run.id;
    show();
  });
  const label = make("label", "rt-show");
  label.append(shown, make("i", "rt-line"), make("span", "rt-number"));
  const [first, second, name] = [make("td"), make("td"), make("th", "", run.name)];
  first.append(label);
  second.append(reference);
  name.scope = "row";
  name.title = run.name;
  const line = make("tr");
  line.dataset.run = run.id;
  line.append(first, second, name);
  return line;
}

function cell(run, [name, , titles]) {
  const node = make("td", "", told(run, name, titles));
  node.dataset.column = name;
  if (LOSSES.includes(name)) node.append(...away(run, name));
  return node;
}

function told(run, name, titles) {
  const value = run[name];
  if (value === null) return "—";
  if (Object.hasOwn(titles, value)) return titles[value];
  if (typeof value === "boolean") return value ? "yes" : "no";
  return name === "bits_per_char" ? bits(run, value) : FORMATS[name]?.(value) ?? String(value);
}

// By how much a loss is off the reference's, where the two compare.
function away(run, name) {
  const reference = chosen();
  if (run === reference || run[name] === null || reference[name] === null || !comparable(run, reference, name)) return [];
  const difference = run[name] - reference[name];
  const signed = `${difference < 0 ? "−" : "+"}${threeDecimals(Math.abs(difference))}`;
  return [make("small", `rt-away ${difference < 0 ? "rt-less" : "rt-more"}`, signed)];
}

const sameText = (a, b) => a.text === b.text && a.text_sha256 === b.text_sha256;
const sameTokens = (a, b) => a.tokenizer === b.tokenizer && a.vocab_size === b.vocab_size;

function comparable(a, b, name) {
  const inBits = name === "bits_per_char" && !a.n_unknown && !b.n_unknown;
  return sameText(a, b) && (inBits || sameTokens(a, b));
}

function notes() {
  const { runs } = state;
  const texts = runs.every((run) => sameText(run, runs[0]));
  const tokens = runs.every((run) => sameTokens(run, runs[0]));
  const sentences = [
    [runs.length === 1, "Train another run with other settings, and it stands here beside this one."],
    [!texts, "They learned from different texts, and losses compare only on the same: other differences are left out."],
    [texts && !tokens, "Their tokens differ, so bits per character compare them, and nats a token do not."],
    [runs.some((run) => run.n_unknown), "≥: some tokens of the validation part are unknown to the tokenizer. To foresee what they are takes more bits, in the curves as well."],
    [runs.some((run) => run.val_loss === null), "—: the whole validation part is measured when a run pauses or ends."],
  ];
  return sentences.filter(([holds]) => holds).map(([, sentence]) => sentence);
}

// ---- The curves ----

// Six colours with solid lines, then the same six dashed, then dotted.
function styleOf(run) {
  const i = numberOf(run) - 1;
  const dashes = Object.keys(DASHES);
  return [1 + (i % HUES), dashes[Math.floor(i / HUES) % dashes.length]];
}

const drawn = () => state.runs.filter((run) => run.val.length && !state.hidden.has(run.id));

function placeOf(run, point) {
  return { step: point[STEP], tokens: point[STEP] * run.tokens_per_step, seconds: point[SECONDS] }[axis.value];
}

function layOut(runs, width, height) {
  const edges = { left: MARGIN.left, right: width - MARGIN.right - LABEL.width, top: MARGIN.top, bottom: height - MARGIN.bottom };
  const inBits = runs.every((run) => run.bits_per_nat);
  const lossOf = (run, point) => point[LOSS] * (inBits ? run.bits_per_nat : 1);
  const steps = [0, Math.max(...runs.map((run) => placeOf(run, run.val.at(-1))))];
  const losses = roundRange(...lowestAndHighest(runs, lossOf), false);
  const [x, y] = [scale(steps, [edges.left, edges.right]), scale(losses, [edges.bottom, edges.top])];
  const at = (run, point) => [x(placeOf(run, point)), y(lossOf(run, point))];
  return { ...edges, steps, losses, x, y, at, inBits };
}

// From a run's second evaluation on: what random weights begin with is far above all that one compares.
function lowestAndHighest(runs, lossOf) {
  const losses = runs.flatMap((run) => {
    const from = run.val[run.val.length > 2 ? 1 : 0][STEP];
    return [...run.val, ...run.train].filter((point) => point[STEP] >= from).map((point) => lossOf(run, point));
  });
  return [Math.min(...losses), Math.max(...losses)];
}

function draw() {
  const { clientWidth: width, clientHeight: height } = canvas;
  const runs = drawn();
  Object.assign(element.dataset, { runs: state.runs.length, drawn: runs.map(numberOf).join() });
  if (!width) return; // in a tab that is not open
  const context = prepareCanvas(canvas, width, height);
  state.plot = runs.length ? layOut(runs, width, height) : null;
  readPoint();
  if (!state.plot) return;
  state.colours ??= readColours();
  context.font = FONT;
  context.lineJoin = "bevel";
  const unit = state.plot.inBits ? "bits per character" : "nats per token";
  element.dataset.unit = unit;
  const compact = (number) => number.toLocaleString("en", { notation: "compact" });
  const titles = { x: { title: axis.selectedOptions[0].text, smallest: 0, format: compact }, y: { title: `loss (${unit})` } };
  drawAxes(context, state.plot, state.colours, titles);
  context.save();
  context.rect(state.plot.left, state.plot.top, state.plot.right - state.plot.left + 1, state.plot.bottom - state.plot.top);
  context.clip();
  for (const run of runs) drawCurves(context, run);
  context.restore();
  drawNumbers(context, runs);
  drawCursor(context);
}

function readColours() {
  const colour = (variable) => `rgb(${rgb(variable).join(" ")})`;
  const hues = Array.from({ length: HUES }, (_, i) => colour(`--run-${i + 1}`));
  return { quiet: colour("--rt-quiet"), grid: colour("--border-color-primary"), paper: colour("--background-fill-primary"), hues };
}

function drawCurves(context, run) {
  const [hue, dash] = styleOf(run);
  context.strokeStyle = state.colours.hues[hue - 1];
  const trace = (points, width, alpha, dashes) => {
    context.lineWidth = width;
    context.globalAlpha = alpha;
    context.setLineDash(dashes);
    context.beginPath();
    for (const point of points) context.lineTo(...state.plot.at(run, point));
    context.stroke();
  };
  trace(run.train, 1, 0.4, []);
  trace(run.val, run.id === state.reference ? 3.5 : 1.75, 1, DASHES[dash]);
  context.globalAlpha = 1;
  context.setLineDash([]);
}

// At the end of each curve its number, below that of a curve which ends a little higher.
function drawNumbers(context, runs) {
  const ends = runs.map((run) => [run, ...state.plot.at(run, run.val.at(-1))]).sort((a, b) => a[2] - b[2]);
  context.textAlign = "left";
  context.textBaseline = "middle";
  context.strokeStyle = state.colours.paper;
  context.lineWidth = 4;
  context.lineJoin = "round";
  const placed = [];
  for (const [run, x, end] of ends) {
    const beside = placed.filter((other) => Math.abs(other.x - x) < LABEL.width).map((other) => other.y + LABEL.height);
    const y = Math.max(end, state.plot.top, ...beside);
    placed.push({ x, y });
    context.fillStyle = state.colours.hues[styleOf(run)[0] - 1];
    context.strokeText(numberOf(run), x + 6, y);
    context.fillText(numberOf(run), x + 6, y);
  }
}

function drawCursor(context) {
  const run = cursorRun();
  if (!run) return;
  context.strokeStyle = state.colours.quiet;
  context.lineWidth = 2;
  context.beginPath();
  context.arc(...state.plot.at(run, run.val[state.cursor.at]), 5, 0, 2 * Math.PI);
  context.stroke();
}

// ---- Reading points ----

const cursorRun = () => drawn().find((run) => run.id === state.cursor?.run);

function readPoint() {
  const run = cursorRun();
  if (!run) state.cursor = null;
  else state.cursor.at = Math.min(state.cursor.at, run.val.length - 1);
  find(".rt-readout").textContent = run ? sentence(run, run.val[state.cursor.at]) : "Point at a curve, or use the arrow keys, to read it.";
}

function sentence(run, point) {
  const place = `step ${whole(point[STEP])}, ${whole(point[STEP] * run.tokens_per_step)} tokens, ${FORMATS.seconds(point[SECONDS])}`;
  const inBits = run.bits_per_nat ? `, ${bits(run, point[LOSS] * run.bits_per_nat)} bits per character` : "";
  return `${numberOf(run)} ${run.name}, ${place}: validation loss ${threeDecimals(point[LOSS])} nats per token${inBits}`;
}

function nearest({ offsetX, offsetY }) {
  let best = { away: NEAR };
  for (const run of drawn()) {
    run.val.forEach((point, at) => {
      const [x, y] = state.plot.at(run, point);
      const away = Math.hypot(x - offsetX, y - offsetY);
      if (away < best.away) best = { run: run.id, at, away };
    });
  }
  return best.run ? best : null;
}

function pointAt(cursor) {
  state.cursor = cursor;
  draw();
}

// Along a curve, and from one to the next in the order of their numbers.
function pressKey(event) {
  const [down, right] = ARROWS[event.key] ?? [0, 0];
  const runs = drawn();
  if (!(down || right) || !runs.length) return;
  event.preventDefault();
  const run = cursorRun();
  if (!run) return pointAt({ run: runs[0].id, at: runs[0].val.length - 1 });
  const other = runs[(runs.indexOf(run) + down + runs.length) % runs.length];
  const place = placeOf(run, run.val[state.cursor.at]);
  const distance = (point) => Math.abs(placeOf(other, point) - place);
  const at = down ? other.val.reduce((best, point, i) => (distance(point) < distance(other.val[best]) ? i : best), 0) : state.cursor.at + right;
  pointAt({ run: other.id, at: Math.min(Math.max(at, 0), other.val.length - 1) });
}

function sortBy(event) {
  const column = event.target.closest("button")?.dataset.column;
  if (!column) return;
  state.sorted = { column, rising: column !== state.sorted.column || !state.sorted.rising };
  showTable();
}

find("thead").addEventListener("click", sortBy);
axis.addEventListener("change", draw);
canvas.addEventListener("pointermove", (event) => state.plot && pointAt(nearest(event)));
canvas.addEventListener("pointerleave", () => pointAt(null));
canvas.addEventListener("blur", () => pointAt(null));
canvas.addEventListener("keydown", pressKey);
offerFiles(find(".rt-table"), "table", ["csv", "json"], (kind) => server.table([props.value, kind]));
offerFigure(find(".rt-figure"), (kind) => {
  return server.figure([props.value, kind, axis.value, state.reference, drawn().map((run) => run.id)]);
});
document.addEventListener(RUN_SHOWN, hear);
new ResizeObserver(draw).observe(canvas);
onTheme(() => {
  state.colours = null;
  draw();
});
watch("value", load);
load();
