// Experiments that break a model: see experiment_view.py for the value and what the server sends.

const COLOURS = ["--ev-whole", "--ev-broken"];
const LEAP = 3; // times the first loss: beyond, only logarithms show both curves
const LOWEST = 1e-3; // nats, on that scale

const find = (selector) => element.querySelector(selector);
const cards = new Map(); // name -> card
let slug = ""; // of the section that is shown

// ---- Cards ----

// Those of the section that is shown. Another model in use brings the same experiments again: what was run stays.
function show() {
  for (const about of props.value?.experiments ?? []) if (!cards.has(about.name)) cards.set(about.name, makeCard(about));
  const shown = [...cards.values()].filter(({ about }) => about.section === slug);
  find(".ev-cards").replaceChildren(...shown.map((card) => card.node));
  find(".ev").hidden = !shown.length;
}

function makeCard(about) {
  const node = find(".ev-template").content.firstElementChild.cloneNode(true);
  const card = { about, node, find: (selector) => node.querySelector(selector), seed: 0, state: "", curves: [[], []] };
  card.find(".ev-title").textContent = about.title;
  card.find(".ev-question").textContent = about.question;
  card.find(".ev-setting").textContent = `The twin “${about.twins[0]}”: ${about.setting}`;
  card.find(".ev-progress").max = about.n_steps;
  card.find(".ev-run").addEventListener("click", () => run(card));
  card.find(".ev-stop").addEventListener("click", () => card.state === "running" && setState(card, "stopping", "Stopping …"));
  node.dataset.name = about.name;
  setState(card, "new", "");
  new ResizeObserver(() => draw(card)).observe(card.find(".ev-curves"));
  return card;
}

function setState(card, state, sentence) {
  const busy = ["running", "stopping"].includes(state);
  const [again, stop] = [card.find(".ev-run"), card.find(".ev-stop")];
  const hadFocus = [again, stop].includes(document.activeElement);
  card.state = card.node.dataset.state = state;
  card.find(".ev-status").textContent = sentence;
  card.find(".ev-progress").hidden = !busy;
  again.textContent = card.seed ? "Run again with another seed" : "Run both";
  again.ariaLabel = `${again.textContent}: ${card.about.title}`;
  stop.ariaDisabled = state === "stopping";
  again.hidden = busy;
  stop.hidden = !busy;
  if (hadFocus) (busy ? stop : again).focus({ preventScroll: true }); // one of them has just gone
}

// ---- One experiment, from the click to its end ----

async function run(card) {
  card.seed++;
  Object.assign(card, { curves: [[], []], results: [] });
  card.find(".ev-shown").hidden = false;
  card.find(".ev-outcome").hidden = true;
  card.find(".ev-notice").replaceChildren();
  setState(card, "running", "Both twins begin …");
  showProgress(card);
  const { visitor } = props.value;
  const begun = await ask(() => server.begin([visitor, card.about.name, card.seed]));
  if (begun.error) return setState(card, "failed", begun.error);
  while (element.isConnected) {
    if (card.state === "stopping") return stop(card, visitor, begun.id);
    const answer = await ask(() => server.more([visitor, begun.id]));
    if (answer.error) return setState(card, "failed", answer.error);
    take(card, answer);
    if (answer.notice) return conclude(card, answer);
  }
}

async function stop(card, visitor, id) {
  await ask(() => server.stop([visitor, id]));
  setState(card, "stopped", `Stopped after ${stepsOf(card)} of ${card.about.n_steps} steps: too early to tell.`);
}

function take(card, { steps, results }) {
  for (const [twin, step, loss] of steps) card.curves[twin].push([step, loss]);
  card.results.push(...results);
  showProgress(card);
}

const stepsOf = (card) => Math.max(...card.curves.map((curve) => curve.length));

function showProgress(card) {
  const n = stepsOf(card);
  if (n && card.state === "running") card.find(".ev-status").textContent = `Step ${n} of ${card.about.n_steps}`;
  card.find(".ev-progress").value = n;
  card.node.dataset.points = card.curves[0].length + card.curves[1].length;
  showLegend(card);
  draw(card);
}

function showLegend({ about, curves, find }) {
  find(".ev-legend").replaceChildren(...about.twins.map((name, twin) => {
    const item = make("li");
    item.append(swatch(twin), make("span", "", name), make("b", "", lossNow(curves[twin])));
    return item;
  }));
}

function swatch(twin) {
  const mark = make("i", "ev-swatch");
  mark.style.background = `var(${COLOURS[twin]})`;
  return mark;
}

function lossNow(curve) {
  return curve.length ? figureText(curve.at(-1)[1]) : "";
}

const figureText = (number) => (number === null ? "no number" : threeDecimals(number));

// ---- What came out ----

function conclude(card, { measures, notice }) {
  const figures = card.results.map((result) => result.figures);
  card.find(".ev-table thead tr").replaceChildren(heading("", "col"), ...card.about.twins.map((name, twin) => {
    const cell = heading(` ${name}`, "col");
    cell.prepend(swatch(twin));
    return cell;
  }));
  card.find(".ev-table tbody").replaceChildren(...measures.map((title, i) => {
    const row = make("tr", i === measures.length - 1 ? "ev-decides" : "");
    row.append(heading(title, "row"), ...figures.map((of) => make("td", "", figureText(of[i]))));
    return row;
  }));
  card.find(".ev-samples").replaceChildren(...card.results.map((result) => sampleNode(card.about, result)));
  card.find(".ev-outcome").hidden = false;
  card.find(".ev-notice").append(make("h5", "", "What to notice"), make("p", "", surprise(figures) + notice));
  setState(card, "done", [`Seed ${card.seed}.`, ...lost(card)].join(" "));
  card.node.dataset.figures = JSON.stringify(figures);
  draw(card);
  document.dispatchEvent(new CustomEvent(QUESTION_ANSWERED, { detail: { section: card.about.section } }));
}

// Before the words on what is to be expected, if this run has come out otherwise.
function surprise([whole, broken]) {
  const [before, after] = [whole.at(-1), broken.at(-1)];
  return after === null || before < after ? "" : "This time it came out the other way, which is rare: run it again. What is usual: ";
}

function heading(text, scope) {
  const cell = make("th", "", text);
  cell.scope = scope;
  return cell;
}

// The sentences on twins whose loss left what a computer can hold.
function lost({ about, curves }) {
  return curves.flatMap((curve, twin) => {
    const [step, loss] = curve.at(-1);
    if (loss !== null) return [];
    return [`The twin “${about.twins[twin]}” ended at step ${step}: its loss was no longer a finite number.`];
  });
}

function sampleNode({ twins, prompt }, { twin, sample }) {
  const [node, title, text] = [make("section"), make("h5", "", ` Sample, ${twins[twin]}`), make("p", "ev-sample look-text")];
  title.prepend(swatch(twin));
  text.append(make("b", "", prompt), sample || "nothing: it has no numbers to choose by");
  text.dir = "auto";
  node.append(title, text);
  return node;
}

// ---- The curves ----

function draw({ about, curves, find }) {
  const canvas = find(".ev-curves");
  const { clientWidth: width, clientHeight: height } = canvas;
  if (!width) return; // not shown
  const [quiet, grid, ...lines] = ["--body-text-color", "--border-color-primary", ...COLOURS].map((name) => `rgb(${rgb(name)})`);
  const plot = layOut(about.n_steps, curves, width, height);
  const context = prepareCanvas(canvas, width, height);
  context.font = FONT;
  drawAxes(context, plot, { quiet, grid }, {
    x: { title: "steps", smallest: 1, format: whole },
    y: { title: `loss of each batch, nats a token${plot.log ? " (logarithmic)" : ""}`, log: plot.log },
  });
  context.lineWidth = 1.75;
  context.lineJoin = "round";
  curves.forEach((curve, twin) => {
    context.strokeStyle = lines[twin];
    context.beginPath();
    for (const [step, loss] of curve) if (loss !== null) context.lineTo(plot.x(step), plot.y(Math.max(loss, plot.lowest)));
    context.stroke();
  });
  canvas.ariaLabel = `Loss by step: ${about.twins.map((name, twin) => `${name} ${lossNow(curves[twin])}`).join(", ")}`;
}

function layOut(nSteps, curves, width, height) {
  const losses = curves.flat().map(([, loss]) => loss).filter((loss) => loss !== null);
  const first = losses[0] ?? 1;
  const [low, high] = [Math.min(first, ...losses), Math.max(first, ...losses)];
  const log = high > LEAP * first;
  const edges = { left: MARGIN.left, right: width - MARGIN.right, top: MARGIN.top, bottom: height - MARGIN.bottom };
  const range = log ? [Math.max(low, LOWEST) * 0.9, high * 1.1] : roundRange(low < high / 2 ? 0 : low, high, false);
  const x = scale([1, nSteps], [edges.left, edges.right]);
  const y = scale(range, [edges.bottom, edges.top], log);
  return { ...edges, steps: [1, nSteps], losses: range, log, lowest: range[0], x, y };
}

onTheme(() => cards.forEach(draw));
watch("value", show);
whileSection((shown) => {
  slug = shown;
  show();
});
