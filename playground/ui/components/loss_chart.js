// The live view of one training run: asks the server twice a second for what is new, and draws it.

const POLL_MS = 500;
const ALIVE_MS = 50000; // a page that shows nothing new still says at least this often that it is there
const MOST = { train: 2000, val: 1000 }; // points that are kept of a long run; twice as many before they are thinned
const OTHER_HUES = 5;
const LABEL_HEIGHT = 15;
const ABOUT = 0.01; // of a loss; its estimates are about that exact
const STATES = {
  starting: "Starting",
  running: "Training",
  pausing: "Pausing",
  paused: "Paused",
  stopping: "Stopping",
  finished: "Finished",
  stopped: "Stopped",
  failed: "Failed",
  gone: "This run is no longer on the server.",
};
const ACTIVE = ["starting", "running", "pausing", "paused", "stopping"]; // there is more to ask for

// Where things stand in a point of `train` and of `val`.
const STEP = 0;
const LOSS = 1;
const RATE = 2;
const NORM = 3;
const SMOOTH = 4;
const SAMPLE = 2;
const FIRST = 3; // the loss on the text that was learned before

const find = (selector) => element.querySelector(selector);
const view = find(".run");
const canvas = find("canvas");
const context = canvas.getContext("2d");
const slider = find(".sample-head input");
const points = find(".points select");
const progress = find(".progress");

// The run that is shown.
let value = null;
let latest = {}; // the newest reply
let home = null; // which server the page was made by
let train = [];
let val = [];
let cursor = 0; // how many steps of the run the page has heard of; of a long run it keeps fewer
let live = false; // whether there is more to ask for
let busy = false;
let askedAt = 0;
let polls = 0;
let updates = 0;

// Earlier runs: id -> {name, val, hue, shown}; `val` is null until the server answered.
const others = new Map();

// What the visitor chose.
const log = { x: false, y: false };
let zoom = null; // [from, to] in steps
let hover = null; // pixels from the left of the canvas
let pinned = null; // the evaluation whose sample is looked at; null is that of the step in use
let returnTo = null; // the step that is chosen to go back to; null is that in use
let marked = null; // the step at which the heads are looked at, below; null is the newest

// What the last drawing used.
const picture = document.createElement("canvas"); // all but the crosshair, which moves far more often
let frame = 0;
let stale = true; // whether the picture must be drawn anew
let colours = null;
let plot = null; // {left, right, top, bottom, x, y}


// ---- Data

function take() {
  const before = { ...value };
  value = props.value ? { ...props.value } : null;
  live = Boolean(value);
  find(".empty").hidden = live;
  view.hidden = !live;
  if (value?.run !== before.run) startOver();
  else if (value?.in_use !== before.in_use) followUse();
  if (!value) return;
  setText(find(".name"), latest.name ?? value.name);
  putIntoAddress({ model: value.shipped });
  takeOthers();
  poll();
}

function startOver() {
  latest = {};
  train = [];
  val = [];
  cursor = 0;
  zoom = null;
  marked = null;
  updates = 0;
  polls = 0;
  view.removeAttribute("data-lost");
  followUse();
}

// The figures, the sample and the list are those of what is in use.
function followUse() {
  pinned = null;
  returnTo = null;
  showFigures();
  redraw();
}

// The step of the run to which one went back; null if what it became at its end is in use, or another model.
function inUse() {
  return value?.in_use ?? null;
}

async function poll() {
  if (!element.isConnected) return leave();
  const silent = Date.now() - askedAt > ALIVE_MS;
  if (!value || busy || ((!live || document.hidden) && !silent)) return;
  busy = true;
  askedAt = Date.now();
  const asked = value;
  const reply = await ask(asked.run, cursor);
  busy = false;
  if (value !== asked) return poll();
  polls += 1;
  element.dataset.polls = polls;
  view.toggleAttribute("data-lost", !reply);
  if (reply) receive(reply);
  else showStatus();
}

// A reply, or undefined if the server could not be reached or failed.
async function ask(run, cursor) {
  try {
    const reply = await server.poll([value.visitor, run, cursor]);
    return reply.error ? undefined : reply;
  } catch {
    return undefined;
  }
}

// After a restart the server knows nothing of this page's other parts, and Gradio may have given up sending presses.
function receive(reply) {
  home ??= reply.server;
  if (reply.server !== home) return location.reload();
  const before = latest.state;
  const drawn = whatIsDrawn();
  const gone = reply.state === "gone";
  latest = gone ? { ...latest, state: "gone", message: reply.message } : reply;
  live = ACTIVE.includes(reply.state);
  const evaluated = !gone && absorb(reply);
  showFigures();
  if (whatIsDrawn() !== drawn) redraw();
  if (reply.state !== before) trigger("state", { run: value.run, state: reply.state });
  if (evaluated) trigger("evaluated", { run: value.run, step: val.at(-1)[STEP] });
  tellRun();
}

function tellRun() {
  const { visitor, run, shipped } = value;
  const detail = { visitor, run, shipped: Boolean(shipped), state: latest.state, step: latest.step };
  document.dispatchEvent(new CustomEvent(RUN_SHOWN, { detail }));
}

function whatIsDrawn() {
  return JSON.stringify([updates, train.length, val.length, latest.state, latest.max_iters, latest.references]);
}

// Takes over the new points; says whether there are new evaluations. From cursor 0 on, a run comes whole.
function absorb(reply) {
  if (reply.cursor < cursor || reply.cursor === 0) {
    const held = (point) => reply.cursor > 0 && point[STEP] <= reply.cursor;
    train = train.filter(held);
    val = val.filter(held);
  }
  cursor = reply.step;
  train = thinned(train.concat(reply.train), MOST.train);
  val = thinned(val.concat(reply.val), MOST.val);
  if (reply.train.length || reply.val.length) updates += 1;
  return reply.val.length > 0;
}

// Of twice as many points as there may be: the first, the last, and the lowest and highest of each stretch between, as
// in curve.py.
function thinned(points, most) {
  if (points.length < 2 * most) return points;
  const kept = new Set([points[0], points.at(-1)]);
  const stretches = (most - 2) / 2;
  for (let i = 0; i < stretches; i++) {
    const [from, to] = [i, i + 1].map((at) => Math.floor((at * points.length) / stretches));
    const stretch = points.slice(from, to);
    for (const pick of [Math.min, Math.max]) {
      const loss = pick(...stretch.map((point) => point[LOSS]));
      kept.add(stretch.find((point) => point[LOSS] === loss));
    }
  }
  return points.filter((point) => kept.has(point));
}

// The earlier runs come once each: they do not change any more.
function takeOthers() {
  const wanted = value.others ?? [];
  const ids = wanted.map((other) => other.run);
  for (const run of others.keys()) if (!ids.includes(run)) others.delete(run);
  wanted.forEach(({ run, name }, i) => {
    const hue = `--other-${1 + (i % OTHER_HUES)}`;
    const before = others.get(run);
    others.set(run, { val: null, shown: true, ...before, name, hue });
    if (!before) fetchOther(run);
  });
  showOthers();
}

async function fetchOther(run) {
  const reply = await ask(run, 0);
  const other = others.get(run);
  if (!other) return;
  if (!reply) return others.delete(run); // asked for again with the next value
  other.val = reply.val ?? [];
  showOthers();
}

function drawnOthers() {
  return [...others.values()].filter((other) => other.shown && other.val?.length);
}


// ---- Figures and text

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function perplexity(loss) {
  return known(Number.isFinite(loss) ? Math.exp(loss) : NaN, (p) => (p < 1000 ? p.toFixed(2) : whole(p)));
}

function showFigures() {
  showFacts();
  showStatus();
  showTiles();
  showTexts();
  showForgetting();
  showSample();
  showPoints();
}

// What the browser tests read.
function showFacts() {
  Object.assign(element.dataset, {
    state: latest.state ?? "none",
    step: latest.step ?? "",
    points: train.length,
    updates,
    polls,
    valLoss: val.at(-1)?.[LOSS] ?? "",
    finalLoss: latest.final_loss ?? "",
    inUse: inUse() ?? "",
    firstLosses: val.map((point) => point[FIRST] ?? "").join(" "),
    zoom: zoom ? zoom.map(Math.round).join(" ") : "",
  });
}

function showStatus() {
  const lost = view.hasAttribute("data-lost");
  if (latest.name) setText(find(".name"), latest.name);
  view.dataset.state = latest.state ?? "";
  setText(find(".state"), lost ? "Connection lost, trying again…" : STATES[latest.state] ?? "");
  setText(find(".message"), lost ? "" : latest.message ?? "");
  find(".compare").hidden = live || !(value?.n_runs > 1);
}

function showTiles() {
  const at = live ? null : inUse();
  const last = (at === null ? train.at(-1) : train.findLast((point) => point[STEP] <= at)) ?? [];
  const loss = at === null ? latest.final_loss ?? val.at(-1)?.[LOSS] : evaluation(at)[LOSS];
  const over = latest.state && !live;
  setText(find(".step"), known(at ?? latest.step, (step) => `${whole(step)} / ${whole(latest.max_iters)}`));
  setText(find(".train"), known(last[LOSS], threeDecimals));
  setText(find(".val"), known(loss, atLeast(threeDecimals)));
  setText(find(".perplexity"), known(loss, atLeast(perplexity)));
  setText(find(".speed"), known(latest.tokens_per_second, whole));
  setText(find(".norm"), known(last[NORM], threeDigits));
  setText(find(".rate"), known(last[RATE], threeDigits));
  setText(find(".time-label"), over ? "Time taken" : "Time left");
  setText(find(".time"), known(over ? latest.seconds : latest.seconds_left, duration));
  showProgress();
  showInUse();
  showFinal();
}

// The losses after a step. Of a long run only some evaluations are sent, but all points; a point may have made way.
function evaluation(step) {
  return [...(latest.points ?? []), ...val].find((point) => point[STEP] === step) ?? [];
}

// What the tokenizer does not know is foreseen in less than it takes.
function atLeast(format) {
  return (loss) => (latest.n_unknown ? `≥\u00a0${format(loss)}` : format(loss));
}

function showInUse() {
  const at = inUse();
  find(".in-use").hidden = at === null;
  const place = at ? `as it was after step ${whole(at)}` : "as it was before the first step";
  const figures = live ? "" : "; the figures above are those of then";
  setText(find(".in-use"), `In use is the model ${place}${figures}. Fine-tuning goes on from there.`);
}

function showProgress() {
  const step = latest.step ?? 0;
  const end = Math.max(1, latest.max_iters ?? 1);
  progress.setAttribute("aria-valuemax", end);
  progress.setAttribute("aria-valuenow", step);
  progress.firstElementChild.style.width = `${Math.min(100, (100 * step) / end)}%`;
}

function showFinal() {
  const final = latest.final_loss;
  find(".final").hidden = !Number.isFinite(final);
  if (!Number.isFinite(final)) return;
  const tokens = Number.isFinite(latest.val_tokens) ? ` (${whole(latest.val_tokens)} tokens)` : "";
  const first = latest.first_final_loss;
  const kept = Number.isFinite(first) ? `; over that of ${latest.first_text}: ${threeDecimals(first)}` : "";
  const when = inUse() === null ? "Loss" : `At the end, after step ${whole(latest.step)}: loss`;
  const loss = `${atLeast(threeDecimals)(final)} nats per token`;
  setText(find(".final"), `${when} over the whole validation part${ofText()}${tokens}: ${loss}${kept}.`);
}

// Fine-tuning has two texts, so that each loss says which it is of.
function ofText() {
  return tuned() && latest.text ? ` of ${latest.text}` : "";
}

function tuned() {
  return val[0]?.[STEP] === 0;
}

function showTexts() {
  const first = latest.first_text ?? "";
  find(".first-key").hidden = !first;
  view.toggleAttribute("data-first", Boolean(first));
  setText(find(".first-text"), first);
  find(".new").hidden = !(tuned() && latest.text);
  setText(find(".text"), latest.text ?? "");
  setText(find(".val-label"), tuned() ? "Loss on the new text" : "Validation loss");
  find(".unknown").hidden = !latest.n_unknown;
  const share = `${known(latest.n_unknown, whole)} of ${known(latest.val_tokens, whole)} tokens of the validation part`;
  const marks = `${share} are unknown to the tokenizer. To foresee what they are takes more, in the curves as well.`;
  setText(find(".unknown"), `≥: ${marks}`);
}

function showForgetting() {
  const points = val.filter((point) => Number.isFinite(point[FIRST]));
  const [before, now] = [points[0], points.at(-1)];
  find(".forgetting").hidden = points.length < 2;
  if (points.length < 2) return;
  const dashed = `Dashed: the loss on the earlier text; where it rises, the model forgets. It ${moved(before[FIRST], now[FIRST])}.`;
  setText(find(".forgetting"), `${dashed} Solid: the loss on the new text. It ${moved(before[LOSS], now[LOSS])}.`);
}

function moved(from, to) {
  const [before, now] = [from, to].map((loss) => loss.toFixed(2));
  if (Math.abs(to - from) < ABOUT * from) return `stayed at about ${before}`;
  return `${to > from ? "rose" : "fell"} from ${before} to ${now}`;
}

// What one can go back to: at first what is in use, or the latest; a choice stays as points are added.
function showPoints() {
  const kept = latest.points ?? [];
  const [steps, texts] = [kept.map(([step]) => step), kept.map(pointText)];
  find(".points").hidden = !steps.length;
  find(".points-note").hidden = !latest.points_note;
  setText(find(".points-note"), latest.points_note ?? "");
  if (texts.join() !== [...points.options].map((option) => option.text).join()) {
    points.replaceChildren(...steps.map((step, i) => new Option(texts[i], step)));
  }
  const wanted = returnTo ?? inUse();
  points.value = steps.includes(wanted) ? wanted : steps.at(-1) ?? "";
}

function pointText([step, loss, firstLoss]) {
  const losses = [["new text", loss], ["earlier text", firstLoss]].filter(([, loss]) => Number.isFinite(loss));
  const texts = losses.map(([name, loss]) => `${name} ${threeDecimals(loss)}`);
  return [step ? `step ${whole(step)}` : "the beginning", ...texts].join(" · ");
}

function showOthers() {
  const buttons = [...others.values()].filter((other) => other.val?.length).map(otherButton);
  find(".others").replaceChildren(...buttons);
  redraw();
}

function otherButton(other) {
  const button = document.createElement("button");
  const name = document.createElement("span");
  name.textContent = other.name;
  button.type = "button";
  button.title = "Show or hide this earlier run";
  button.style.setProperty("--hue", `var(${other.hue})`);
  button.setAttribute("aria-pressed", other.shown);
  button.append(name);
  button.addEventListener("click", () => {
    other.shown = !other.shown;
    button.setAttribute("aria-pressed", other.shown);
    redraw();
  });
  return button;
}

function samples() {
  return val.filter((point) => typeof point[SAMPLE] === "string");
}

function showSample() {
  const all = samples();
  const last = all.length - 1;
  const followed = live || inUse() === null ? last : all.findLastIndex((point) => point[STEP] <= inUse());
  const at = all.includes(pinned) ? all.indexOf(pinned) : followed;
  if (at === followed) pinned = null;
  const sample = all[at];
  slider.hidden = last < 1;
  slider.max = Math.max(0, last);
  slider.value = Math.max(0, at);
  slider.setAttribute("aria-valuetext", sample ? `step ${sample[STEP]}` : "");
  setText(find(".sample-step"), sample ? `step ${whole(sample[STEP])}` : "");
  const none = live ? "The first sample comes with the first evaluation." : "There is no sample of this run.";
  setText(find(".sample-text"), sample ? sample[SAMPLE] : none);
  const before = val[0]?.[STEP] === 0 ? val[0][SAMPLE] : null;
  find(".before").hidden = typeof before !== "string";
  setText(find(".before-text"), before ?? "");
}


// ---- Scales

// A logarithmic axis has no place for step 0: it stands at step 1.
function stepOf(point) {
  return log.x ? Math.max(1, point[STEP]) : point[STEP];
}

function drawable(loss) {
  return Number.isFinite(loss) && (loss > 0 || !log.y);
}

function stepRange() {
  const first = log.x ? 1 : 0;
  if (zoom) return [Math.max(first, zoom[0]), Math.max(first + 1, zoom[1])];
  const steps = [train, val, ...drawnOthers().map((other) => other.val)].map((points) => points.at(-1)?.[STEP] ?? 0);
  const last = Math.max(10, ...steps);
  if (!live) return [first, last];
  // Halves of the whole run, so that the curve fills half the width at least and the axis seldom changes.
  let end = latest.max_iters ?? last;
  while (end / 2 >= last) end /= 2;
  return [first, Math.max(end, last)];
}

// All losses in these steps, and the references unless one zoomed in, out to round numbers.
function lossRange([from, to]) {
  let low = Infinity;
  let high = -Infinity;
  const include = (loss) => {
    if (!drawable(loss)) return;
    low = Math.min(low, loss);
    high = Math.max(high, loss);
  };
  for (const points of [train, val, ...drawnOthers().map((other) => other.val)]) {
    for (const point of points) {
      if (stepOf(point) >= from && stepOf(point) <= to) include(point[LOSS]);
    }
  }
  for (const point of val) if (stepOf(point) >= from && stepOf(point) <= to) include(point[FIRST]);
  if (!zoom) Object.values(latest.references ?? {}).forEach(include);
  if (low > high) return [1, 5];
  return roundRange(low, high, log.y);
}


// ---- Drawing

function redraw() {
  stale = true;
  redrawCrosshair();
}

function redrawCrosshair() {
  if (!frame) frame = requestAnimationFrame(draw);
}

function draw() {
  frame = 0;
  if (!canvas.clientWidth) return; // in a tab that is not open
  if (stale) drawPicture();
  showPicture();
  drawMark();
  drawCrosshair();
  drawSelection(context, colours.selection);
}

function showPicture() {
  context.save();
  context.resetTransform();
  context.globalCompositeOperation = "copy";
  context.drawImage(picture, 0, 0);
  context.restore();
}

function drawPicture() {
  const { clientWidth: width, clientHeight: height } = canvas;
  fit(width, height);
  colours ??= readColours();
  plot = layOut(width, height);
  context.clearRect(0, 0, width, height);
  context.font = FONT;
  const y = { title: "loss (nats per token)", log: log.y };
  drawAxes(context, plot, colours, { x: { title: "step", log: log.x, smallest: 1, format: whole }, y });
  clipped(() => {
    drawReferenceLines();
    drawnOthers().forEach(drawOther);
    drawTrain();
    drawVal(LOSS, colours.val, []);
    drawVal(FIRST, colours.first, [6, 4]);
  });
  drawReferenceLabels();
  drawInUse();
  find(".reset").style.visibility = zoom ? "visible" : "hidden";
  [picture.width, picture.height] = [canvas.width, canvas.height];
  picture.getContext("2d").drawImage(canvas, 0, 0);
  stale = false;
}

// One canvas pixel for each pixel of the screen.
function fit(width, height) {
  const ratio = window.devicePixelRatio || 1;
  const size = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
}

function readColours() {
  const colour = (variable, alpha = 1) => `rgb(${rgb(variable).join(" ")} / ${alpha})`;
  const hues = Array.from({ length: OTHER_HUES }, (_, i) => `--other-${i + 1}`);
  return {
    text: colour("--body-text-color"),
    quiet: colour("--quiet"),
    grid: colour("--border-color-primary", 0.7),
    paper: colour("--background-fill-primary"),
    train: colour("--train"),
    trainRaw: colour("--train", 0.35),
    val: colour("--val"),
    first: colour("--first"),
    selection: colour("--color-accent", 0.15),
    others: Object.fromEntries(hues.map((hue) => [hue, colour(hue, 0.85)])),
  };
}

function layOut(width, height) {
  const edges = { left: MARGIN.left, right: width - MARGIN.right, top: MARGIN.top, bottom: height - MARGIN.bottom };
  const steps = stepRange();
  const losses = lossRange(steps);
  return {
    ...edges,
    steps,
    losses,
    x: scale(steps, [edges.left, edges.right], log.x),
    y: scale(losses, [edges.bottom, edges.top], log.y),
  };
}

function clipped(paint) {
  context.save();
  context.beginPath();
  // A little wider, so that dots at the border stay whole.
  context.rect(plot.left - 4, plot.top - 4, plot.right - plot.left + 8, plot.bottom - plot.top + 8);
  context.clip();
  paint();
  context.restore();
}

function dot(x, y, radius, colour) {
  context.fillStyle = colour;
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

// A line through the points, with gaps where there is none to draw. Where many fall in one pixel column it goes once
// from the lowest to the highest: that looks the same, and 20,000 points cost no more than 2,000.
function drawCurve(points, column, colour, width) {
  let group = null; // the points of one pixel column
  let penDown = false;
  const put = () => {
    if (!group) return;
    if (penDown) context.lineTo(group.x, group.low);
    else context.moveTo(group.x, group.low);
    if (group.high !== group.low) context.lineTo(group.x, group.high);
    penDown = true;
    group = null;
  };
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.lineJoin = "bevel";
  context.beginPath();
  for (const point of points) {
    if (!drawable(point[column])) {
      put();
      penDown = false;
      continue;
    }
    const x = plot.x(stepOf(point));
    const y = plot.y(point[column]);
    if (group && Math.floor(x) === Math.floor(group.x)) {
      group.low = Math.min(group.low, y);
      group.high = Math.max(group.high, y);
    } else {
      put();
      group = { x, low: y, high: y };
    }
  }
  put();
  context.stroke();
}

function drawTrain() {
  drawCurve(train, LOSS, colours.trainRaw, 1);
  drawCurve(train, SMOOTH, colours.train, 1.75);
  const last = train.findLast((point) => drawable(point[SMOOTH]));
  if (last) dot(plot.x(stepOf(last)), plot.y(last[SMOOTH]), 2.5, colours.train);
}

function drawVal(column, colour, dashes) {
  context.setLineDash(dashes);
  drawCurve(val, column, colour, 1.75);
  context.setLineDash([]);
  const crowded = val.length > (plot.right - plot.left) / 10;
  for (const point of val) {
    if (drawable(point[column])) dot(plot.x(stepOf(point)), plot.y(point[column]), crowded ? 1.5 : 3, colour);
  }
}

function drawOther(other) {
  const colour = colours.others[other.hue];
  drawCurve(other.val, LOSS, colour, 1.25);
  const last = other.val.findLast((point) => drawable(point[LOSS]));
  if (last) dot(plot.x(stepOf(last)), plot.y(last[LOSS]), 2, colour);
}

// The reference losses that are in view, from the top down.
function references() {
  const { uniform, unigram, bigram } = latest.references ?? {};
  const all = [["uniform: ln V =", uniform], ["unigram", unigram], ["bigram", bigram]];
  const [low, high] = plot.losses;
  return all
    .filter(([, loss]) => drawable(loss) && loss >= low && loss <= high)
    .map(([name, loss]) => ({ text: `${name} ${loss.toFixed(2)}`, y: plot.y(loss) }))
    .sort((a, b) => a.y - b.y);
}

function drawReferenceLines() {
  context.strokeStyle = colours.quiet;
  context.lineWidth = 1;
  context.setLineDash([4, 4]);
  for (const { y } of references()) line(context, plot.left, Math.round(y) + 0.5, plot.right, Math.round(y) + 0.5);
  context.setLineDash([]);
}

// Each label stands above its line, but never on another label.
function drawReferenceLabels() {
  const labels = references();
  const baselines = labels.map(({ y }) => y - 4);
  const last = labels.length - 1;
  for (let i = last; i >= 0; i--) {
    const room = i === last ? plot.bottom - 2 : baselines[i + 1] - LABEL_HEIGHT;
    baselines[i] = Math.min(baselines[i], room);
  }
  for (let i = 0; i <= last; i++) {
    const room = i === 0 ? plot.top - 4 : baselines[i - 1] + LABEL_HEIGHT;
    baselines[i] = Math.max(baselines[i], room);
  }
  context.textAlign = "right";
  context.textBaseline = "alphabetic";
  context.fillStyle = colours.quiet;
  labels.forEach(({ text }, i) => writeRimmed(text, plot.right - 2, baselines[i]));
}

// Where one went back to.
function drawInUse() {
  const at = inUse();
  if (at === null || at > plot.steps[1] || (zoom && at < plot.steps[0])) return;
  const x = Math.round(plot.x(Math.max(at, plot.steps[0]))) + 0.5;
  context.strokeStyle = context.fillStyle = colours.text;
  context.lineWidth = 1.5;
  context.setLineDash([2, 3]);
  line(context, x, plot.top, x, plot.bottom);
  context.setLineDash([]);
  const right = x > (plot.left + plot.right) / 2;
  context.textAlign = right ? "right" : "left";
  context.textBaseline = "alphabetic";
  writeRimmed("in use", right ? x - 5 : x + 5, plot.top + 14);
}

// In the colour of `fillStyle`; a rim in the paper's colour keeps curves off it.
function writeRimmed(text, x, y) {
  context.strokeStyle = colours.paper;
  context.lineWidth = 4;
  context.lineJoin = "round";
  context.strokeText(text, x, y);
  context.fillText(text, x, y);
}

function drawMark() {
  if (marked === null || marked > plot.steps[1] || (zoom && marked < plot.steps[0])) return;
  const x = Math.round(plot.x(Math.max(marked, plot.steps[0]))) + 0.5;
  context.strokeStyle = colours.train;
  context.lineWidth = 1.5;
  line(context, x, plot.top, x, plot.bottom);
}

function drawCrosshair() {
  const step = hover === null ? null : plot.x.invert(hover);
  const trainPoint = step === null ? null : nearest(train, step);
  const valPoint = step === null ? null : nearest(val, step);
  const point = trainPoint ?? valPoint;
  showReadout(point, trainPoint, valPoint);
  if (!point) return;
  const x = plot.x(stepOf(point));
  if (x < plot.left - 1 || x > plot.right + 1) return;
  context.strokeStyle = colours.quiet;
  context.lineWidth = 1;
  line(context, Math.round(x) + 0.5, plot.top, Math.round(x) + 0.5, plot.bottom);
  clipped(() => {
    if (drawable(trainPoint?.[LOSS])) dot(x, plot.y(trainPoint[LOSS]), 3.5, colours.train);
    for (const [column, colour] of [[LOSS, colours.val], [FIRST, colours.first]]) {
      if (drawable(valPoint?.[column])) dot(plot.x(stepOf(valPoint)), plot.y(valPoint[column]), 4.5, colour);
    }
  });
}

function nearest(points, step) {
  let best = null;
  for (const point of points) {
    if (!best || Math.abs(point[STEP] - step) < Math.abs(best[STEP] - step)) best = point;
  }
  return best;
}

function showReadout(point, trainPoint, valPoint) {
  if (!point) return setText(find(".readout"), "Point at the curves to read them, drag to zoom in.");
  const parts = [`step ${whole(point[STEP])}`, `training ${known(trainPoint?.[LOSS], threeDecimals)}`];
  if (valPoint) {
    parts.push(`validation ${known(valPoint[LOSS], threeDecimals)} (step ${whole(valPoint[STEP])})`);
    parts.push(`perplexity ${perplexity(valPoint[LOSS])}`);
    if (Number.isFinite(valPoint[FIRST])) parts.push(`earlier text ${threeDecimals(valPoint[FIRST])}`);
  }
  setText(find(".readout"), parts.join("  ·  "));
}


// ---- The visitor's hands

function setZoom(range) {
  zoom = range;
  showFacts();
  redraw();
}

function pointAt(x) {
  hover = x;
  redrawCrosshair();
}

const drawSelection = zoomByDragging(
  canvas,
  () => plot,
  (range) => setZoom(range && [range[0], Math.max(range[1], range[0] + 2)]),
  redrawCrosshair,
);

function pressKey(event) {
  const direction = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (event.key === "Escape") pointAt(null);
  if (!direction || !plot) return;
  event.preventDefault();
  const from = hover ?? (direction < 0 ? plot.right : plot.left);
  pointAt(Math.min(plot.right, Math.max(plot.left, from + direction * (event.shiftKey ? 40 : 4))));
}

function toggleLog(axis) {
  log[axis] = !log[axis];
  find(`.log-${axis}`).setAttribute("aria-pressed", log[axis]);
  redraw();
}

// Another part of the page looks at the heads as they were after some step.
function markStep({ detail }) {
  if (detail.run !== value?.run) return;
  marked = detail.step;
  const before = samples().filter((point) => point[STEP] <= marked);
  pinned = marked === null ? null : before.at(-1) ?? samples()[0] ?? null;
  element.dataset.marked = marked ?? "";
  showSample();
  redrawCrosshair();
}

function chooseSample() {
  pinned = samples()[Number(slider.value)];
  showSample();
}

function goBack() {
  trigger("back", { run: value.run, step: Number(points.value) });
}

canvas.addEventListener("pointermove", (event) => plot && pointAt(Math.min(plot.right, Math.max(plot.left, event.offsetX))));
canvas.addEventListener("pointercancel", () => pointAt(null));
canvas.addEventListener("pointerleave", () => pointAt(null));
canvas.addEventListener("blur", () => pointAt(null));
canvas.addEventListener("keydown", pressKey);
find(".reset").addEventListener("click", () => setZoom(null));
find(".log-x").addEventListener("click", () => toggleLog("x"));
find(".log-y").addEventListener("click", () => toggleLog("y"));
slider.addEventListener("input", chooseSample);
points.addEventListener("change", () => (returnTo = Number(points.value)));
find(".go-back").addEventListener("click", goBack);
find(".compare").addEventListener("click", () => document.dispatchEvent(new CustomEvent(RUNS_SOUGHT)));
document.addEventListener(STEP_SHOWN, markStep);

// ---- Start and end

const timer = setInterval(poll, POLL_MS);
document.addEventListener("visibilitychange", poll);

// Gradio takes the element out of the page for good when it is hidden.
function leave() {
  clearInterval(timer);
  document.removeEventListener("visibilitychange", poll);
  document.removeEventListener(STEP_SHOWN, markStep);
}

keepPainted(canvas, redraw, () => (colours = null));
watch("value", take);
offerFigure(find(".figure-buttons"), (kind) => server.figure([value.visitor, value.run, kind]));
showFigures();
take();
