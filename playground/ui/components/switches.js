// Heads and MLPs to switch off: see switches.py for the value and what the server sends.

const EMPTY = "Press Show attention to look at a model.";
const MLP = -1;

const find = (selector) => element.querySelector(selector);
const state = {
  model: null, // whose parts these are
  off: new Set(), // "layer,head" of what is switched off
  rises: new Map(), // "layer,head" -> by how much the loss rises without it alone
  ownText: false, // whether losses are those of the text that the model has learned from, not of the prompt
  measuring: 0, // which measurement of all parts is going on; 0 is none
  written: 0, // how often texts were asked for: only the last answer counts
};

const pairOf = (key) => key.split(",").map(Number);
const question = (keys) => [props.value.visitor, props.value.id, keys.map(pairOf)];
const partName = ([layer, head]) => (head === MLP ? `Layer ${layer + 1}, MLP` : headName([layer, head]));
const signed = (x) => `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(3)}`;

const load = loadWhileOpen(EMPTY, () => server.effect(question([...state.off])), show);

// ---- The parts ----

function show(answer) {
  const { layers, heads } = answer;
  if (find(".sw-grid").dataset.shape !== `${layers},${heads}`) build(layers, heads);
  mark();
  tellLoss(answer);
  find(".sw-next tbody").replaceChildren(...answer.next.map(nextToken));
  find(".sw-all").disabled = find(".sw-write").disabled = !state.off.size;
  state.ownText = answer.own_text;
  element.dataset.off = [...state.off].sort().join(" ");
}

function build(layers, heads) {
  const grid = find(".sw-grid");
  grid.dataset.shape = `${layers},${heads}`;
  grid.style.gridTemplateColumns = `max-content repeat(${heads + 1}, 1fr)`;
  grid.replaceChildren();
  for (let layer = 0; layer < layers; layer++) {
    grid.append(make("span", "sw-row", `Layer ${layer + 1}`));
    for (let head = 0; head < heads; head++) grid.append(part(layer, head));
    grid.append(part(layer, MLP));
  }
}

function part(layer, head) {
  const button = make("button", "sw-part");
  button.type = "button";
  button.dataset.part = `${layer},${head}`;
  button.append(make("span", "", head === MLP ? "MLP" : `Head ${head + 1}`), make("small"));
  return button;
}

// What is off, and by how much the loss rises without each part. The colour goes by the root of that share of the most:
// a first MLP may matter so much more than all else that the rest would look alike.
function mark() {
  const largest = Math.max(1e-9, ...[...state.rises.values()].map(Math.abs));
  for (const button of find(".sw-grid").querySelectorAll("button")) {
    const key = button.dataset.part;
    const rise = state.rises.get(key);
    button.ariaPressed = String(state.off.has(key));
    button.ariaLabel = `${partName(pairOf(key))}${rise === undefined ? "" : `, loss ${signed(rise)} without it`}`;
    button.lastChild.textContent = rise === undefined ? "" : signed(rise);
    button.style.setProperty("--sw-share", Math.sqrt(Math.abs(rise ?? 0) / largest));
    button.style.setProperty("--sw-colour", `var(--look-${rise < 0 ? "minus" : "plus"})`);
  }
}

function switchPart(key) {
  if (!state.off.delete(key)) state.off.add(key);
  mark();
  lookAnew();
}

function switchAllOn() {
  state.off.clear();
  lookAnew();
}

// What was written was written with something else.
function lookAnew() {
  state.written += 1;
  find(".sw-texts").hidden = true;
  find(".sw-fault").textContent = "";
  load();
}

// ---- What it does ----

function tellLoss(effect) {
  const { before, after } = effect;
  const change = after - before;
  const line = [before.toFixed(3)];
  if (state.off.size) {
    line.push(` → ${after.toFixed(3)} `, make("span", change > 0 ? "sw-worse" : "sw-better", `(${signed(change)})`));
  }
  find(".sw-loss").replaceChildren(...line);
  find(".sw-where").textContent = `nats a token, ${overTokens(effect)}`;
}

function nextToken([text, before, after]) {
  const row = make("tr");
  const name = make("th");
  name.scope = "row";
  name.append(make("bdi", "", visible(text)));
  row.append(name, ...[before, after].map(share));
  return row;
}

function share(p) {
  const cell = make("td", "look-bar", p < 0.0005 ? "< 0.1 %" : `${(100 * p).toFixed(1)} %`);
  cell.style.setProperty("--share", p);
  return cell;
}

async function write() {
  const request = ++state.written;
  const button = find(".sw-write");
  button.disabled = true;
  find(".sw-fault").textContent = "";
  const answer = await ask(() => server.texts(question([...state.off])));
  button.disabled = !state.off.size;
  if (request !== state.written) return;
  if (answer.error) return void (find(".sw-fault").textContent = answer.error);
  element.querySelectorAll(".sw-text").forEach((node, i) => (node.textContent = answer[i]));
  find(".sw-texts").hidden = false;
}

// ---- All parts, one after the other ----

async function measure() {
  const run = (state.measuring = Date.now());
  const keys = [...find(".sw-grid").querySelectorAll("button")].map((button) => button.dataset.part);
  forgetRises();
  find(".sw-measure").textContent = "Stop measuring";
  find(".sw-told").ariaLive = "off";
  find(".sw-progress").hidden = false;
  for (const [i, key] of keys.entries()) {
    find(".sw-progress").value = i / keys.length;
    find(".sw-told").textContent = `${i} of ${keys.length}: ${partName(pairOf(key))}`;
    const answer = await ask(() => server.rise(question([key])));
    if (run !== state.measuring) return;
    if (answer.error) return stopMeasuring(answer.error);
    state.rises.set(key, answer.rise);
    mark();
  }
  stopMeasuring(`The loss without each part alone. ${mostNeeded()}`);
  find(".figure-buttons").hidden = false;
}

function forgetRises() {
  state.rises.clear();
  find(".figure-buttons").hidden = true;
}

function mostNeeded() {
  const [key, rise] = [...state.rises].reduce((most, next) => (next[1] > most[1] ? next : most));
  return `Most is lost without ${partName(pairOf(key))}: ${signed(rise)}.`;
}

function stopMeasuring(sentence) {
  state.measuring = 0;
  find(".sw-measure").textContent = "Measure each alone";
  find(".sw-progress").hidden = true;
  find(".sw-told").ariaLive = "polite"; // the end alone is read out
  find(".sw-told").textContent = sentence;
}

find(".sw-grid").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) switchPart(button.dataset.part);
});
find(".sw-all").addEventListener("click", switchAllOn);
find(".sw-measure").addEventListener("click", () => {
  if (state.measuring) stopMeasuring("Stopped.");
  else measure();
});
find(".sw-write").addEventListener("click", write);
offerFigure(find(".figure-buttons"), (kind) => server.rises([props.value.id, [...state.rises.values()], kind]));
watch("value", () => {
  const otherModel = props.value?.model !== state.model;
  state.model = props.value?.model;
  if (otherModel) state.off.clear();
  if (otherModel || !state.ownText) {
    forgetRises(); // they were those of another model, or of another prompt
    stopMeasuring("");
  }
  lookAnew();
});
load();
