// One training step in six stages: see unrolled_step.py for the value and what the server sends.

const EMPTY = "No model is in use: train one, or choose one in the Checkpoints tab.";
const OPTIMIZERS = { muon: "Muon", adam: "Adam", adamw: "AdamW" };

const find = (selector) => element.querySelector(selector);
const findAll = (selector) => [...element.querySelectorAll(selector)];
const [stages, buttons, lines, index] = [".us-stage", ".us-way li button", ".us-line", ".us-index"].map(findAll);
const state = { step: null, stage: 0, typed: false };

const question = () => [props.value.visitor, props.value.version, {
  lines: lines.map((line) => line.value),
  tensor: find(".us-tensor").value,
  index: index.slice(0, shapeOf(find(".us-tensor").value).length).map(numberIn),
  rate: numberIn(find(".us-rate")),
}];
const load = loadWhileOpen(EMPTY, () => server.step(question()), show);

const numberIn = (input) => (input.value === "" ? null : Number(input.value));
const shapeOf = (name) => props.value.tensors.find(([tensor]) => tensor === name)[1];

// All digits that a float32 has, or as many as are asked for; the very small ones with a power of ten, as in the code.
function exact(x, digits = 7) {
  const text = x && Math.abs(x) < 1e-4 ? x.toExponential(digits - 1).replace(/\.?0*e\+?/, "e") : x.toPrecision(digits);
  return (text.includes("e") ? text : String(Number(text))).replaceAll("-", "−");
}

// ---- What is chosen ----

// Another model: what the visitor typed or chose stays as long as the model has it.
function offer() {
  const { lines: suggested, tensors, tensor, rate } = props.value;
  if (!state.typed) lines.forEach((line, i) => (line.value = suggested[i]));
  const select = find(".us-tensor");
  const before = select.value;
  select.replaceChildren(...tensors.map(([name, shape]) => new Option(`${name} (${shape.join(" × ")})`, name)));
  select.value = tensors.some(([name]) => name === before) ? before : tensor;
  if (select.value !== before) index.forEach((input, i) => (input.value = props.value.index[i]));
  find(".us-rate").value ||= rate;
  fitIndex();
}

// The numbers that say where in a tensor the weight stands; a vector has one.
function fitIndex() {
  const shape = shapeOf(find(".us-tensor").value);
  find(".us-column").hidden = shape.length === 1;
  shape.forEach((n, i) => {
    index[i].max = n - 1;
    index[i].value = Math.min(index[i].value, n - 1);
  });
}

// ---- The stages ----

function turnTo(stage) {
  state.stage = Math.min(Math.max(stage, 0), stages.length - 1);
  stages.forEach((section, i) => (section.hidden = i !== state.stage));
  buttons.forEach((button, i) => (button.ariaCurrent = i === state.stage ? "step" : null));
  find(".us-back").ariaDisabled = state.stage === 0; // not `disabled`, which would take the focus away
  find(".us-next").ariaDisabled = state.stage === stages.length - 1;
  find(".us-title").textContent = `${state.stage + 1} of ${stages.length}: ${stages[state.stage].dataset.title}`;
  element.dataset.stage = state.stage + 1;
}

function show(step) {
  state.step = step;
  showBatch();
  showPlaces();
  showTerms();
  showGradient();
  showAdam();
  showAfter();
  for (const figure of findAll(".ls")) showListing(figure, step.listings[figure.dataset.of]);
  turnTo(state.stage);
  element.dataset.loss = step.loss;
}

function token([id, text]) {
  const name = make("span", "us-token");
  name.append(make("bdi", "", visible(text)), " ", make("small", "", id));
  return name;
}

function cell(content, tag = "td", className = "") {
  const node = make(tag, className);
  node.append(content);
  if (tag === "th") node.scope = "row";
  return node;
}

function row(...cells) {
  const line = make("tr");
  line.append(...cells);
  return line;
}

function showBatch() {
  const [first, second] = state.step.lines;
  find(".us-batch tbody").replaceChildren(...first.map((place, t) => {
    const pair = [place, second[t]].flatMap(({ input, target }) => [cell(token(input)), cell(token(target))]);
    return row(cell(t + 1, "th"), ...pair);
  }));
  const n = state.step.n_cut;
  find(".us-cut").textContent = n ? `The longer line is cut to the shorter: ${tokens(n)} left out.` : "";
}

const tokens = (n) => (n === 1 ? "its last token is" : `its last ${n} tokens are`);

function showPlaces() {
  const { shape, lines: batch } = state.step;
  find(".us-shape").textContent = `${shape.map((n) => n.toLocaleString("en")).join(" × ")}`;
  const select = find(".us-place");
  const before = select.value;
  select.replaceChildren(...batch.flatMap((places, b) => places.map(({ input }, t) => {
    return new Option(`line ${b + 1}, token ${t + 1} ${visible(input[1])}`, `${b},${t}`);
  })));
  select.value = before;
  if (!select.value) select.selectedIndex = 0;
  showLogits();
}

function showLogits() {
  const [b, t] = find(".us-place").value.split(",");
  const { next, target } = state.step.lines[b][t];
  find(".us-logits tbody").replaceChildren(...next.map(([id, text, logit]) => {
    const name = cell(token([id, text]), "th");
    if (id === target[0]) name.append(make("b", "", " target"));
    return row(name, cell(exact(logit)));
  }));
}

function showTerms() {
  const { lines: batch, loss } = state.step;
  const most = Math.max(...batch.flat().map((place) => place.loss));
  const terms = batch.flatMap((places, b) => places.map(({ target, log_sum_exp, logit, loss }) => {
    const name = cell(make("bdi", "us-token", visible(target[1])), "th");
    name.prepend(make("small", "", `${b + 1}. `));
    const term = cell(exact(loss), "td", "look-bar");
    term.style.setProperty("--share", loss / most);
    return row(name, cell(exact(log_sum_exp)), cell(exact(logit)), term);
  }));
  const mean = row(cell(`mean of ${terms.length} terms`, "th"), cell(""), cell(""), cell(exact(loss), "td", "us-loss"));
  mean.className = "us-sum";
  find(".us-terms tbody").replaceChildren(...terms, mean);
}

// Rows of [what it is, its name in the code, its value as text].
function showFacts(selector, facts) {
  find(`${selector} tbody`).replaceChildren(...facts.map(([words, name, value]) => {
    const head = cell(words, "th");
    if (name) head.append(" ", make("code", "", name));
    const line = row(head, cell(value));
    if (name) line.dataset.name = name;
    return line;
  }));
}

function weightName({ tensor, index }) {
  return `${tensor}[${index.join(", ")}]`;
}

function showGradient() {
  const { weight, gradient, difference } = state.step;
  showFacts(".us-gradient", [
    [weightName(weight), "w", exact(weight.before)],
    ["by backward()", "gradient", exact(gradient)],
    ["moved by", "h", exact(difference.h)],
    ["loss of w + h", "above", exact(difference.above, 15)],
    ["loss of w − h", "below", exact(difference.below, 15)],
    ["(above − below) / 2h", "slope", exact(difference.slope)],
  ]);
  find(".us-agree").textContent = agreement(gradient, difference.slope);
}

const ROUNDING = 1e-8; // of a gradient in float32: what is smaller may be all of it

function agreement(gradient, slope) {
  if (gradient === 0 && slope === 0) return "Both are 0: this weight has no say in these two lines.";
  const apart = Math.abs(gradient - slope);
  const share = apart / Math.max(Math.abs(gradient), Math.abs(slope));
  if (share > 0.01 && apart < ROUNDING) return "Both are 0 but for rounding: this weight has no say in these two lines.";
  return `The two differ by ${exact(100 * share, 2)} %.`;
}

function showAdam() {
  const { weight, gradient, adam } = state.step;
  showFacts(".us-adam", [
    ["gradient", "g", exact(gradient)],
    ["mean of the gradient", "m", exact(adam.m)],
    ["mean of its square", "v", exact(adam.v)],
    ["m / (1 − β₁)", "m_hat", exact(adam.m_hat)],
    ["v / (1 − β₂)", "v_hat", exact(adam.v_hat)],
    ["learning rate", "", exact(numberIn(find(".us-rate")))],
    ["weight decay of this tensor", "weight_decay", exact(weight.weight_decay)],
    ["to be added", "update", exact(adam.update)],
    [weightName(weight), "w", exact(weight.before)],
    ["and after the step", "w + update", exact(weight.after)],
  ]);
  const { optimizer } = props.value;
  const other = `This model was trained with ${OPTIMIZERS[optimizer]}; the step here is AdamW’s.`;
  find(".us-optimizer").textContent = optimizer === "adamw" ? "" : other;
}

function showAfter() {
  const { loss, loss_after, n_weights } = state.step;
  showFacts(".us-after", [
    ["loss before", "", exact(loss)],
    ["loss after", "", exact(loss_after)],
    ["change", "", `${loss_after > loss ? "+" : ""}${exact(loss_after - loss)}`],
    ["weights moved", "", n_weights.toLocaleString("en")],
  ]);
  const bars = findAll(".us-after td").slice(0, 2);
  [loss, loss_after].forEach((value, i) => {
    bars[i].className = "look-bar";
    bars[i].style.setProperty("--share", value / Math.max(loss, loss_after));
  });
  const { dropout } = props.value;
  find(".us-dropout").textContent = dropout ? `Its dropout of ${dropout} is switched off here.` : "";
}

// ---- The controls ----

find(".us-choices").addEventListener("submit", (event) => event.preventDefault());
find(".us-choices").addEventListener("change", (event) => {
  if (!props.value) return;
  if (lines.includes(event.target)) state.typed = true;
  if (event.target === find(".us-tensor")) fitIndex();
  load();
});
find(".us-place").addEventListener("change", showLogits);
find(".us-back").addEventListener("click", () => turnTo(state.stage - 1));
find(".us-next").addEventListener("click", () => turnTo(state.stage + 1));
buttons.forEach((button, i) => button.addEventListener("click", () => turnTo(i)));
find(".us-way ol").addEventListener("keydown", (event) => {
  const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!way) return;
  event.preventDefault();
  turnTo(state.stage + way);
  buttons[state.stage].focus();
});

function renew() {
  if (props.value) offer();
  load();
}

watch("value", renew);
renew();
