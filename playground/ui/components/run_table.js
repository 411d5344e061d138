// The visit's runs side by side: see run_table.py for what the server sends.

const EMPTY = "The page does not know yet whose it is.";
const REFRESH_MS = 2000;
const GROWTH = 1.02; // by which a run has got on before its curves are asked for anew
const HUES = 6;
const ROUNDS = ["solid", "dotted"]; // of the first six runs, of the next, and so on
const DASHES = { solid: [], dotted: [2, 3], dashed: [7, 4] };
const LOWER_BOUND = { dash: "dashed", strength: 0.6 }; // of a run with tokens that it does not know
const LABEL = { width: 22, height: 13 }; // pixels that the number at a curve's end takes
const RIM = 6; // pixels around the curves
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
const OVER = { best_loss: "best_tokens", val_loss: "val_tokens", bits_per_char: "val_tokens" };
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
  log: { x: false, y: false },
  zoom: null, // [from, to] in what the curves are drawn by
  heard: {}, // of the run that the loss chart shows
  sought: false, // whether the visitor wants to see the section as soon as it is there
  loads: 0,
  asking: false,
  askedAt: 0,
  cursor: null, // the point that is read: {run, at}
  plot: null,
  colours: null,
};

// ---- What comes from the server ----

const load = loadWhileOpen(EMPTY, () => server.runs([props.value, "", state.reference ?? ""]), (answer) => {
  state.loads += 1;
  state.runs = answer.runs;
  state.columns = answer.columns;
  show();
  if (state.sought) find("details").scrollIntoView(); // now that it has its height
  state.sought = false;
});

// The visitor comes from the loss chart.
function seek() {
  if (!element.isConnected) return document.removeEventListener(RUNS_SOUGHT, seek);
  state.sought = !find("details").open;
  find("details").open = true;
  find("details").scrollIntoView();
  find("summary").focus();
}

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
  const answer = await ask(() => server.runs([props.value, id, ""]));
  state.asking = false;
  if (answer.error || loads !== state.loads) return; // all of them have come since
  const known = state.runs.find((run) => run.id === id);
  if (known.learning_rate_changed !== answer.runs[0].learning_rate_changed) return load(); // by which they differ now
  state.runs = state.runs.map((run) => (run.id === id ? { ...run, ...answer.runs[0] } : run));
  show();
}

function show() {
  const ids = state.runs.map((run) => run.id);
  if (!ids.includes(state.reference)) state.reference = ids[0];
  for (const id of state.lines.keys()) if (!ids.includes(id)) state.lines.delete(id);
  if (state.cursor && !ids.includes(state.cursor.run)) state.cursor = null;
  showTable();
  find(".rt-note").textContent = notes().join(" ");
  showLegend();
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
    const button = make("button", "look-plain", title.replace(/ \(\w+\)$/, ""));
    button.type = "button";
    button.dataset.column = name;
    button.title = `Sort by ${name}`; // the name in the code, which some titles have in brackets
    const cell = make("th");
    cell.append(button);
    return cell;
  });
  for (const cell of [...plain, ...sorting]) cell.scope = "col";
  return [...plain, ...sorting];
}

// In either direction lower bounds of losses come after all that is known, and what is not known yet comes last; what is
// equal stays in the order in which it began.
function byColumn(one, other) {
  const apart = groupOf(one) - groupOf(other);
  if (apart) return apart;
  const [a, b] = [one, other].map((run) => run[state.sorted.column] ?? "");
  const order = typeof a === "string" ? a.localeCompare(b) : a - b;
  return state.sorted.rising ? order : -order;
}

function groupOf(run) {
  const { column } = state.sorted;
  if ((run[column] ?? null) === null) return 2;
  return LOSSES.includes(column) && run.n_unknown ? 1 : 0;
}

function lineOf(run) {
  if (!state.lines.has(run.id)) state.lines.set(run.id, newLine(run));
  const line = state.lines.get(run.id);
  line.querySelector(".rt-line").style.cssText = swatch(run);
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
    showLegend();
    draw();
  });
  reference.name = "rt-reference";
  reference.ariaLabel = `Measure the others by ${run.name}`;
  reference.addEventListener("change", () => {
    state.reference = run.id;
    show();
    load(); // what tells the others from this one
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
  if (OVER[name] && run[name] !== null) node.append(make("small", "rt-over", `over ${whole(run[OVER[name]])} tokens`));
  if (name === "bits_per_char" && run.n_unknown) node.append(make("small", "rt-over", `${percent(run.unknown_share)} unknown`));
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
const sameTokens = (a, b) => a.vocabulary === b.vocabulary;

function comparable(a, b, name) {
  const inBits = name === "bits_per_char" && !a.n_unknown && !b.n_unknown;
  return sameText(a, b) && (inBits || sameTokens(a, b));
}

function notes() {
  const { runs } = state;
  const texts = runs.every((run) => sameText(run, runs[0]));
  const tokens = runs.every((run) => sameTokens(run, runs[0]));
  const sentences = [
    [runs.length > 1, "Press a column’s name to sort by it. The reference is the run that the others are measured by: −0.100 below a loss says that it is lower by so much, which is better, and +0.100 that it is higher."],
    [runs.length === 1, "Train another run with other settings, and it stands here beside this one."],
    [!texts, "They learned from different texts, and losses compare only on the same: other differences are left out."],
    [texts && !tokens, "Their tokens differ, so bits per character compare them, and nats a token do not."],
    [runs.some((run) => run.n_unknown), "≥: some tokens of the validation part are unknown to the tokenizer. To foresee what they are takes more bits, so these losses are lower bounds: sorted they come after the others, and their curves are dashed."],
    [true, "The best validation loss is an estimate during the run, the loss over the whole part is measured at its end."],
    [runs.some((run) => run.val_loss === null), "—: the whole validation part is measured when a run pauses or ends."],
  ];
  return sentences.filter(([holds]) => holds).map(([, sentence]) => sentence);
}

// ---- The curves ----

function styleOf(run) {
  const i = numberOf(run) - 1;
  const own = { dash: ROUNDS[Math.floor(i / HUES) % ROUNDS.length], strength: 1 };
  return { hue: 1 + (i % HUES), ...(run.n_unknown ? LOWER_BOUND : own) };
}

function swatch(run) {
  const { hue, dash, strength } = styleOf(run);
  return `--hue: var(--run-${hue}); --dash: ${dash}; --strength: ${strength}`;
}

function showLegend() {
  const lines = drawn().map((run) => {
    const bound = run.n_unknown ? `lower bound, ${percent(run.unknown_share)} of tokens unknown` : "";
    const line = make("li", run.id === state.reference ? "rt-chosen" : "");
    const curve = make("i", "rt-line");
    curve.style.cssText = swatch(run);
    line.append(curve, make("span", "", [`${numberOf(run)} ${run.name}`, run.told, bound].filter(Boolean).join(" · ")));
    return line;
  });
  find(".rt-legend").replaceChildren(...lines, make("li", "rt-thin", "thin: training"));
}

const drawn = () => state.runs.filter((run) => run.val.length && !state.hidden.has(run.id));

function placeOf(run, point) {
  return { step: point[STEP], tokens: point[STEP] * run.tokens_per_step, seconds: point[SECONDS] }[axis.value];
}

function layOut(runs, width, height) {
  const edges = { left: MARGIN.left, right: width - MARGIN.right - LABEL.width, top: MARGIN.top, bottom: height - MARGIN.bottom };
  const inBits = runs.every((run) => run.bits_per_nat);
  const lossOf = (run, point) => point[LOSS] * (inBits ? run.bits_per_nat : 1);
  const steps = state.zoom ?? wholeRange(runs);
  const losses = roundRange(...lowestAndHighest(runs, lossOf, steps), state.log.y);
  const x = scale(steps, [edges.left, edges.right], state.log.x);
  const y = scale(losses, [edges.bottom, edges.top], state.log.y);
  const at = (run, point) => [x(placeOf(run, point)), y(lossOf(run, point))];
  return { ...edges, steps, losses, x, y, at, inBits };
}

// From zero to the end; a logarithmic axis begins with the first step.
function wholeRange(runs) {
  const last = Math.max(...runs.map((run) => placeOf(run, run.train.at(-1))));
  const first = Math.min(...runs.map((run) => placeOf(run, run.train[0])));
  return [state.log.x ? Math.min(Math.max(first, last / 1e4), last / 2) : 0, last];
}

// Of all losses in these steps, the first ones of a run included, as in the loss chart.
function lowestAndHighest(runs, lossOf, [from, to]) {
  const points = runs.flatMap((run) => [...run.val, ...run.train].map((point) => [placeOf(run, point), lossOf(run, point)]));
  const within = points.filter(([place]) => place >= from && place <= to);
  const losses = (within.length ? within : points).map(([, loss]) => loss);
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
  Object.assign(element.dataset, { unit, losses: state.plot.losses.join(" "), zoom: state.zoom?.map(threeDigits).join(" ") ?? "" });
  find(".rt-reset").hidden = !state.zoom;
  const compact = (number) => number.toLocaleString("en", { notation: "compact" });
  const titles = {
    x: { title: axis.selectedOptions[0].text, smallest: 0, format: compact, log: state.log.x },
    y: { title: `loss (${unit})`, log: state.log.y },
  };
  drawAxes(context, state.plot, state.colours, titles);
  context.save();
  const { left, top, right, bottom } = state.plot;
  context.rect(left - RIM, top - RIM, right - left + 2 * RIM, bottom - top + 2 * RIM); // so that what stands at the edge is whole
  context.clip();
  for (const run of runs) drawCurves(context, run);
  drawCursor(context);
  context.restore();
  drawNumbers(context, runs);
  drawSelection(context, state.colours.selection);
}

function readColours() {
  const colour = (variable, alpha = 1) => `rgb(${rgb(variable).join(" ")} / ${alpha})`;
  const hues = Array.from({ length: HUES }, (_, i) => colour(`--run-${i + 1}`));
  return {
    quiet: colour("--rt-quiet"),
    grid: colour("--border-color-primary"),
    paper: colour("--background-fill-primary"),
    selection: colour("--color-accent", 0.15),
    hues,
  };
}

function drawCurves(context, run) {
  const { hue, dash, strength } = styleOf(run);
  context.strokeStyle = state.colours.hues[hue - 1];
  const trace = (points, width, alpha, dashes) => {
    context.lineWidth = width;
    context.globalAlpha = alpha;
    context.setLineDash(dashes);
    context.beginPath();
    for (const point of points) context.lineTo(...state.plot.at(run, point));
    context.stroke();
  };
  trace(run.train, 1, 0.4 * strength, []);
  trace(run.val, run.id === state.reference ? 3.5 : 1.75, strength, DASHES[dash]);
  context.globalAlpha = 1;
  context.setLineDash([]);
}

// At the end of each curve, as far as it is in view, its number, below that of a curve which ends a little higher.
function drawNumbers(context, runs) {
  const [from, to] = state.plot.steps;
  const inView = (run) => run.val.findLast((point) => placeOf(run, point) >= from && placeOf(run, point) <= to);
  const seen = runs.map((run) => [run, inView(run)]).filter(([, point]) => point);
  const ends = seen.map(([run, point]) => [run, ...state.plot.at(run, point)]).sort((a, b) => a[2] - b[2]);
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
    context.fillStyle = state.colours.hues[styleOf(run).hue - 1];
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
  find(".rt-readout").textContent = run ? sentence(run, run.val[state.cursor.at]) : "Point at a curve, or use the arrow keys, to read it; drag to zoom in.";
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

function zoomTo(range) {
  state.zoom = range;
  draw();
}

function toggleLog({ currentTarget: button }) {
  const on = (state.log[button.dataset.axis] = !state.log[button.dataset.axis]);
  button.ariaPressed = on;
  if (button.dataset.axis === "x") state.zoom = null; // which may begin at zero
  draw();
}

const drawSelection = zoomByDragging(canvas, () => state.plot, zoomTo, draw);

function sortBy(event) {
  const column = event.target.closest("button")?.dataset.column;
  if (!column) return;
  state.sorted = { column, rising: column !== state.sorted.column || !state.sorted.rising };
  showTable();
}

find("thead").addEventListener("click", sortBy);
axis.addEventListener("change", () => zoomTo(null));
for (const button of element.querySelectorAll(".rt-log")) button.addEventListener("click", toggleLog);
find(".rt-reset").addEventListener("click", () => zoomTo(null));
canvas.addEventListener("pointermove", (event) => state.plot && pointAt(nearest(event)));
canvas.addEventListener("pointerleave", () => pointAt(null));
canvas.addEventListener("blur", () => pointAt(null));
canvas.addEventListener("keydown", pressKey);
offerFiles(find(".rt-table"), "table", ["csv", "json"], (kind) => server.table([props.value, kind]));
offerFigure(find(".rt-figure"), (kind) => {
  return server.figure([props.value, kind, axis.value, state.reference, drawn().map((run) => run.id)]);
});
document.addEventListener(RUN_SHOWN, hear);
document.addEventListener(RUNS_SOUGHT, seek);
keepPainted(canvas, draw, () => (state.colours = null));
watch("value", load);
load();
