// Shared by what draws losses by steps: numbers, scales, zooming and axes; stands before each component's own script.

const MARGIN = { left: 44, right: 12, top: 26, bottom: 38 };
const FONT = "12px system-ui, sans-serif";

// ---- Numbers ----

function known(number, format) {
  return Number.isFinite(number) ? format(number) : "–";
}

const whole = (number) => Math.round(number).toLocaleString("en-US");
const threeDecimals = (number) => number.toFixed(3);
const threeDigits = (number) => String(Number(number.toPrecision(3)));

function duration(seconds) {
  const s = Math.round(seconds);
  const two = (n) => String(n).padStart(2, "0");
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${two(s % 60)} s`;
  return `${Math.floor(s / 3600)} h ${two(Math.floor((s % 3600) / 60))} min`;
}

// ---- Scales ----

// A function from a number to its pixel; `invert` goes back.
function scale([from, to], [start, end], logarithmic) {
  const forth = logarithmic ? Math.log : (number) => number;
  const back = logarithmic ? Math.exp : (number) => number;
  const perUnit = (end - start) / (forth(to) - forth(from));
  const toPixel = (number) => start + perUnit * (forth(number) - forth(from));
  toPixel.invert = (pixel) => back(forth(from) + (pixel - start) / perUnit);
  return toPixel;
}

// From low to high, out to round numbers.
function roundRange(low, high, logarithmic) {
  if (high - low < 1e-3) [low, high] = [low - 0.05, high + 0.05];
  const step = roundStep(high - low, 6);
  const floor = Math.floor(low / step) * step;
  const ceiling = Math.ceil(high / step) * step;
  return [logarithmic && floor <= 0 ? Math.max(low, high / 1e4) * 0.9 : floor, ceiling];
}

// 1, 2 or 5 times a power of ten, so that `span` has at most about `count` of them.
function roundStep(span, count) {
  const power = 10 ** Math.floor(Math.log10(span / count));
  return power * ([1, 2, 5].find((factor) => factor * power * count >= span) ?? 10);
}

function linearTicks(from, to, step) {
  const first = Math.ceil(from / step - 1e-9);
  const last = Math.floor(to / step + 1e-9);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => (first + i) * step);
}

// 1, 2, 5, 10, 20, …; less than a decade is divided evenly, many decades show only their powers of ten.
function logTicks(from, to, count, smallest) {
  if (to / from < 10) return linearTicks(from, to, Math.max(smallest, roundStep(to - from, count)));
  const ticks = [];
  for (let power = 10 ** Math.floor(Math.log10(from)); power <= to; power *= 10) {
    ticks.push(power, 2 * power, 5 * power);
  }
  const inside = ticks.filter((tick) => tick >= from && tick <= to);
  return inside.length <= count * 2 ? inside : inside.filter((tick) => Number.isInteger(Math.log10(tick)));
}

// ---- Zooming ----

const DRAG_PIXELS = 6; // a shorter drag is a click

// A drag across the curves chooses a range of the horizontal axis; a double click and Escape choose all of it. Calls
// `zoomTo` with [from, to] or null, and `redraw` as the drag goes on; `plotNow()` is the plot that is shown, if there is
// one. Returns what paints the range that is being chosen.
function zoomByDragging(canvas, plotNow, zoomTo, redraw) {
  let drag = null; // [from, to] in pixels
  const inPlot = ({ offsetX }) => Math.min(plotNow().right, Math.max(plotNow().left, offsetX));
  const isWide = () => drag && Math.abs(drag[1] - drag[0]) >= DRAG_PIXELS;
  const stretch = (range) => {
    drag = range;
    redraw();
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !plotNow()) return;
    canvas.setPointerCapture(event.pointerId);
    stretch([inPlot(event), inPlot(event)]);
  });
  canvas.addEventListener("pointermove", (event) => drag && stretch([drag[0], inPlot(event)]));
  canvas.addEventListener("pointerup", () => {
    const range = isWide() ? drag.toSorted((a, b) => a - b).map(plotNow().x.invert) : null;
    stretch(null);
    if (range) zoomTo(range);
  });
  canvas.addEventListener("pointercancel", () => stretch(null));
  canvas.addEventListener("dblclick", () => zoomTo(null));
  canvas.addEventListener("keydown", (event) => event.key === "Escape" && zoomTo(null));
  return (context, colour) => {
    if (!isWide()) return;
    const { top, bottom } = plotNow();
    context.fillStyle = colour;
    context.fillRect(drag[0], top, drag[1] - drag[0], bottom - top);
  };
}

// ---- Painting anew ----

// When the canvas changes its size, and when the page turns dark or light: then `forget` drops the colours first.
function keepPainted(canvas, draw, forget) {
  new ResizeObserver(draw).observe(canvas);
  onTheme(() => {
    forget();
    draw();
  });
}

// ---- Axes ----

// Around the curves: a line and a number for each tick, and what is counted. `plot` has the edges of the curves, the ranges
// of `steps` and `losses`, and their scales `x` and `y`.
function drawAxes(context, plot, colours, { x, y }) {
  context.strokeStyle = colours.grid;
  context.fillStyle = colours.quiet;
  context.lineWidth = 1;
  drawLossAxis(context, plot, y);
  drawStepAxis(context, plot, x);
}

function drawLossAxis(context, plot, { title, log }) {
  const [low, high] = plot.losses;
  const count = Math.max(3, Math.floor((plot.bottom - plot.top) / 45));
  const step = roundStep(high - low, count);
  const ticks = log ? logTicks(low, high, count, 0) : linearTicks(low, high, step);
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const tick of ticks) {
    const y = Math.round(plot.y(tick)) + 0.5;
    line(context, plot.left, y, plot.right, y);
    context.fillText(log ? threeDigits(tick) : tick.toFixed(decimals), plot.left - 8, y);
  }
  context.textAlign = "left";
  context.fillText(title, 0, 8);
}

// No two ticks are closer than `smallest`.
function drawStepAxis(context, plot, { title, log, smallest, format }) {
  const [from, to] = plot.steps;
  const count = Math.max(2, Math.floor((plot.right - plot.left) / 60));
  const ticks = log
    ? logTicks(from, to, count, smallest)
    : linearTicks(from, to, Math.max(smallest, roundStep(to - from, count)));
  context.textAlign = "center";
  context.textBaseline = "top";
  for (const tick of ticks) {
    const x = Math.round(plot.x(tick)) + 0.5;
    line(context, x, plot.bottom, x, plot.bottom + 4);
    const half = context.measureText(format(tick)).width / 2;
    context.fillText(format(tick), Math.min(x, context.canvas.clientWidth - half), plot.bottom + 8);
  }
  context.textAlign = "right";
  context.fillText(title, plot.right, plot.bottom + 24);
}

function line(context, x1, y1, x2, y2) {
  context.beginPath();
  context.moveTo(x1, y1);
  context.lineTo(x2, y2);
  context.stroke();
}
