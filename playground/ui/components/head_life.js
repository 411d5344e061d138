// A head's life: see head_life.py for what the server sends. The run is the one that the loss chart tells of.

const FRAME_MS = 150; // of the film
const GRID_HEIGHT = 340; // about as high as the chosen head beside it
const MARGIN = { left: 30, right: 8, top: 8, bottom: 32 };
const FONT = "11px system-ui, sans-serif";

const find = (selector) => element.querySelector(selector);
const section = find(".hl");
const SCORES = section.dataset.scores.split(" ");
const slider = find(".hl-slider");

const state = {
  run: null, // what the loss chart shows: {visitor, run, state}
  life: null, // what is known of it: {layers, heads, tokens, steps, attention, scores, badges, due}
  busy: false,
  again: false, // whether to ask once more, since something happened while the server was busy
  told: undefined, // the step that the loss chart marks
  at: 0, // the snapshot that is shown
  follows: true, // whether a newer one is shown as it comes
  chosen: [0, 0], // the head that is shown large
  picked: false, // by the visitor; until then it is the one of the highest score
  film: 0,
  linked: false, // whether the address has been followed: from then on it follows
  colours: null,
};

// ---- What comes from the server ----

function hearOfRun({ detail }) {
  if (!element.isConnected) return document.removeEventListener(RUN_SHOWN, hearOfRun);
  const before = state.run;
  state.run = detail;
  if (before?.run !== detail.run) forget();
  const due = state.life?.due ?? 0;
  if (before?.run !== detail.run || before.state !== detail.state || (detail.step >= due && state.life?.due !== null)) load();
}

function forget() {
  stopFilm();
  Object.assign(state, { life: null, at: 0, follows: true, told: undefined });
  section.hidden = true;
}

async function load() {
  state.again = state.busy;
  if (state.busy) return;
  state.busy = true;
  const { visitor, run } = state.run;
  const answer = await ask(() => server.life([visitor, run, state.life?.steps.at(-1) ?? -1]));
  state.busy = false;
  if (run === state.run.run) {
    find(".look-note").textContent = answer.error ?? "";
    if (answer.steps && (state.life || answer.steps.length)) take(answer); // of a run that has just begun there is nothing
  }
  if (state.again || run !== state.run.run) load(); // what comes after that
}

function take(answer) {
  const first = !state.life;
  const arrays = { attention: unpack(answer.attention, Uint8Array), scores: unpack(answer.scores, Float32Array) };
  if (first) state.life = { ...answer, ...arrays };
  else append(answer, arrays);
  section.hidden = false;
  slider.max = state.life.steps.length - 1;
  if (first) build();
  if (first && asked("step") && !state.linked && state.run.shipped) scrubToAsked();
  else if (first || state.follows) showSnapshot(state.life.steps.length - 1);
  else drawCurve();
  showMoments();
}

// The address names a step: of the run that the page opens with, and of no other.
function scrubToAsked() {
  const step = Number(asked("step"));
  const after = state.life.steps.findIndex((seen) => seen >= step);
  scrubTo(after < 0 ? state.life.steps.length - 1 : after);
}

function append(answer, arrays) {
  const { life } = state;
  for (const name of ["attention", "scores"]) {
    const joined = new arrays[name].constructor(life[name].length + arrays[name].length);
    joined.set(life[name]);
    joined.set(arrays[name], life[name].length);
    life[name] = joined;
  }
  life.steps = life.steps.concat(answer.steps);
  life.badges = life.badges.concat(answer.badges);
  life.due = answer.due;
}

// ---- One moment ----

function build() {
  const { layers, heads, tokens } = state.life;
  if (state.chosen[0] >= layers || state.chosen[1] >= heads) state.chosen = [0, 0];
  find(".hl-tokens").textContent = tokens.map(visible).join("");
  const grid = find(".hl-grid");
  const largest = Math.min(Math.max(GRID_HEIGHT / layers, 48), 150);
  grid.style.gridTemplateColumns = `repeat(${heads}, minmax(24px, ${largest}px))`;
  grid.replaceChildren();
  for (let layer = 0; layer < layers; layer++) {
    for (let head = 0; head < heads; head++) {
      const button = make("button", "hl-head");
      button.type = "button";
      Object.assign(button.dataset, { layer, head });
      button.append(make("canvas"), make("span"));
      grid.append(button);
    }
  }
}

function showSnapshot(at) {
  state.at = at;
  if (!state.picked) state.chosen = highest(find(".hl-score").value);
  slider.value = at;
  const { steps, badges } = state.life;
  const step = `step ${steps[at].toLocaleString("en")}`;
  find(".hl-step").textContent = step;
  slider.setAttribute("aria-valuetext", step);
  for (const button of find(".hl-grid").children) {
    const pair = [Number(button.dataset.layer), Number(button.dataset.head)];
    const badge = badges[at][pair[0]][pair[1]];
    paintHead(button.firstChild, pair);
    button.lastChild.textContent = `${pair[0] + 1}.${pair[1] + 1} ${badge}`;
    button.title = button.ariaLabel = badge ? `${headName(pair)}: ${badge} head` : headName(pair);
    button.ariaPressed = String(String(pair) === String(state.chosen));
  }
  showChosen();
  drawCurve();
  tellChart();
  Object.assign(element.dataset, { snapshots: steps.length, step: steps[at], at });
}

// The head whose score is the highest at the end.
function highest(name) {
  const { layers, heads, steps } = state.life;
  const pairs = Array.from({ length: layers * heads }, (_, i) => [Math.floor(i / heads), i % heads]);
  const scoreOf = (pair) => scoreAt(steps.length - 1, name, pair);
  return pairs.reduce((best, pair) => (scoreOf(pair) > scoreOf(best) ? pair : best));
}

function showChosen() {
  const { steps, badges } = state.life;
  const badge = badges[state.at][state.chosen[0]][state.chosen[1]];
  find("figcaption").textContent = headName(state.chosen) + (badge ? `: ${badge}` : "");
  paintHead(find(".hl-map"), state.chosen);
  find(".hl-map").ariaLabel =
    `${headName(state.chosen)} after ${steps[state.at]} steps: query by row, key by column. The arrow keys move the cell.`;
  tellCell();
}

function paintHead(canvas, pair) {
  let next = firstWeight(pair);
  drawCells(canvas, state.life.tokens.length, colours().pixels, () => state.life.attention[next++]);
}

// Where the weights of a head begin: row after row, up to the diagonal.
function firstWeight([layer, head]) {
  const { heads, layers, tokens } = state.life;
  return ((state.at * layers + layer) * heads + head) * (tokens.length * (tokens.length + 1)) / 2;
}

// Of the weight there is its root, in 255ths.
function cellSentence(query, key) {
  const { attention, tokens } = state.life;
  const root = attention[firstWeight(state.chosen) + (query * (query + 1)) / 2 + key] / 255;
  const weight = key > query ? "masked: it comes later" : `weight ${(root * root).toFixed(2)}`;
  return [...cellName(tokens, query, key), ` ${weight}`];
}

const tellCell = readCells([find(".hl-map")], find(".hl-cell"), () => state.life?.tokens.length ?? 0, cellSentence);

// The loss chart marks the step, and shows what the model wrote then.
function tellChart() {
  const step = state.follows ? null : state.life.steps[state.at];
  state.linked = true;
  if (step === state.told) return;
  state.told = step;
  putIntoAddress({ step: state.run.shipped ? step : null }); // nobody else has the steps of a visitor's own run
  document.dispatchEvent(new CustomEvent(STEP_SHOWN, { detail: { run: state.run.run, step } }));
}

// ---- The scores over all of its life ----

function scoreAt(i, name, [layer, head]) {
  const { layers, heads, scores } = state.life;
  return scores[((i * SCORES.length + SCORES.indexOf(name)) * layers + layer) * heads + head];
}

function plotOf(canvas) {
  const { steps } = state.life;
  const end = Math.log(1 + Math.max(1, steps.at(-1)));
  const width = canvas.clientWidth - MARGIN.left - MARGIN.right;
  const height = canvas.clientHeight - MARGIN.top - MARGIN.bottom;
  return {
    x: (step) => MARGIN.left + (width * Math.log(1 + step)) / end,
    y: (score) => MARGIN.top + height * (1 - score),
    nearest: (x) => steps.reduce((best, step, i) => {
      const away = Math.abs(MARGIN.left + (width * Math.log(1 + step)) / end - x);
      return away < best[0] ? [away, i] : best;
    }, [Infinity, 0])[1],
  };
}

function drawCurve() {
  const canvas = find(".hl-curve");
  if (!state.life || !canvas.clientWidth) return;
  const context = prepareCanvas(canvas, canvas.clientWidth, canvas.clientHeight);
  context.font = FONT;
  const plot = plotOf(canvas);
  const { text, quiet, chosen } = colours();
  drawAxes(context, canvas, plot, quiet);
  const name = find(".hl-score").value;
  for (let layer = 0; layer < state.life.layers; layer++) {
    for (let head = 0; head < state.life.heads; head++) drawLine(context, plot, name, [layer, head], quiet, 1);
  }
  drawLine(context, plot, name, state.chosen, chosen, 2.5);
  const x = plot.x(state.life.steps[state.at]);
  stroke(context, text, 1, [], [[x, plot.y(1)], [x, plot.y(0)]]);
  const score = scoreAt(state.at, name, state.chosen);
  canvas.ariaLabel = `${name} of ${headName(state.chosen)} by step`;
  canvas.ariaValueMax = state.life.steps.length - 1;
  canvas.ariaValueNow = state.at;
  canvas.ariaValueText = `${score.toFixed(2)} after ${state.life.steps[state.at]} steps`;
  element.dataset.score = score;
}

// Looked up once for a theme: each look makes the browser lay out the page.
function colours() {
  state.colours ??= {
    pixels: Uint32Array.from(heatLevels(), pixelOf),
    text: `rgb(${rgb("--body-text-color")})`,
    quiet: `rgba(${rgb("--body-text-color")}, 0.55)`,
    chosen: `rgb(${rgb("--look-plus")})`,
  };
  return state.colours;
}

function drawAxes(context, canvas, plot, quiet) {
  context.fillStyle = quiet;
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const tick of [0, 0.5, 1]) context.fillText(tick, MARGIN.left - 6, plot.y(tick));
  context.textBaseline = "bottom";
  context.textAlign = "center";
  context.fillText("step (logarithmic)", canvas.clientWidth / 2, canvas.clientHeight);
  const last = state.life.steps.at(-1);
  let free = 0;
  for (const tick of [0, 1, 10, 100, 1000, 10000, 100000].filter((step) => step < last).concat(last)) {
    const x = Math.min(plot.x(tick), canvas.clientWidth - 18);
    if (x < free) continue;
    context.fillText(tick.toLocaleString("en"), x, canvas.clientHeight - 15);
    free = x + 40;
  }
  const clear = find(".hl-score").value === "uniform" ? section.dataset.even : section.dataset.clear;
  const ends = [MARGIN.left, canvas.clientWidth - MARGIN.right];
  for (const y of [0, 1]) stroke(context, quiet, 0.5, [], ends.map((x) => [x, plot.y(y)]));
  stroke(context, quiet, 1, [4, 4], ends.map((x) => [x, plot.y(clear)]));
  context.textAlign = "left";
  context.fillText(`from ${clear} on a badge`, MARGIN.left + 4, plot.y(clear) - 3);
}

function drawLine(context, plot, name, pair, colour, width) {
  const points = state.life.steps.map((step, i) => [plot.x(step), plot.y(Math.min(1, scoreAt(i, name, pair)))]);
  stroke(context, colour, width, [], points);
}

function stroke(context, colour, width, dash, points) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.setLineDash(dash);
  context.beginPath();
  for (const point of points) context.lineTo(...point);
  context.stroke();
}

// When each head became what it now is.
function showMoments() {
  const { steps, badges, layers, heads } = state.life;
  const moments = [];
  for (let layer = 0; layer < layers; layer++) {
    for (let head = 0; head < heads; head++) {
      const badge = badges.at(-1)[layer][head];
      if (!badge) continue;
      const before = badges.findLastIndex((all) => all[layer][head] !== badge);
      moments.push({ pair: [layer, head], badge, at: before + 1 });
    }
  }
  moments.sort((a, b) => (b.badge === "induction") - (a.badge === "induction") || a.at - b.at);
  const nodes = moments.map(({ pair, badge, at }) => {
    const button = make("button", "look-link", `${headName(pair)}: ${badge} from step ${steps[at].toLocaleString("en")}`);
    button.type = "button";
    button.addEventListener("click", () => jumpTo(pair, badge, at));
    return button;
  });
  find(".hl-moments").replaceChildren(...nodes);
}

function jumpTo(pair, badge, at) {
  stopFilm();
  Object.assign(state, { chosen: pair, picked: true });
  find(".hl-score").value = badge;
  scrubTo(at);
}

// ---- The visitor's hands ----

function scrubTo(at) {
  state.follows = at === state.life.steps.length - 1;
  showSnapshot(at);
}

function playOrStop() {
  if (state.film) return stopFilm();
  const last = state.life.steps.length - 1;
  if (state.at === last) scrubTo(0);
  find(".hl-play").textContent = "Stop";
  state.film = setInterval(() => {
    if (state.at >= state.life.steps.length - 1) return stopFilm();
    scrubTo(state.at + 1);
  }, FRAME_MS);
}

function stopFilm() {
  clearInterval(state.film);
  state.film = 0;
  find(".hl-play").textContent = "Play";
}

slider.addEventListener("input", () => {
  stopFilm();
  scrubTo(Number(slider.value));
});
find(".hl-play").addEventListener("click", playOrStop);
find(".hl-score").addEventListener("change", () => showSnapshot(state.at));
find(".hl-grid").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  Object.assign(state, { chosen: [Number(button.dataset.layer), Number(button.dataset.head)], picked: true });
  showSnapshot(state.at);
});
find(".hl-curve").addEventListener("click", (event) => {
  if (!state.life) return;
  stopFilm();
  scrubTo(plotOf(event.target).nearest(event.offsetX));
});
find(".hl-curve").addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step || !state.life) return;
  event.preventDefault();
  stopFilm();
  scrubTo(Math.min(Math.max(state.at + step, 0), state.life.steps.length - 1));
});
offerFigure(find(".figure-buttons"), (kind) => {
  return server.figure([state.run.visitor, state.run.run, state.life.steps[state.at], kind]);
});
offerFigure(find(".hl-scores-buttons"), (kind) => {
  return server.scores([state.run.visitor, state.run.run, find(".hl-score").value, ...state.chosen, kind]);
});
section.addEventListener("toggle", drawCurve);
document.addEventListener(RUN_SHOWN, hearOfRun);
new ResizeObserver(drawCurve).observe(find(".hl-curve"));
onTheme(() => {
  state.colours = null;
  if (state.life?.steps.length) showSnapshot(state.at);
});
