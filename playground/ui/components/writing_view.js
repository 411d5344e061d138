// Texts as models write them: see writing_view.py for the value and what the server sends. The page asks for the tokens
// a few at a time, so that to stop is not to ask for more, and an answer that was lost is asked for again.

const KEPT_UNDER = "transformer-playground-texts";
const MOST_KEPT = 40; // texts of the history
const MOST_CHARACTERS = 400_000; // of it, which the browser has room for

const find = (selector) => element.querySelector(selector);
const tokens = (n) => `${n.toLocaleString("en")} token${n === 1 ? "" : "s"}`;
const END = Infinity; // the place after a text's last token, wherever that is
const state = { seq: null, sides: [], held: null, lit: null, writing: false };

// ---- A text ----

// A side is {i, id, title, prompt, seed, settings, tokens, ahead, key, changed, about (its node), text (likewise)}.
function build(value) {
  if (state.writing) rememberAll();
  element.dataset.seq = state.seq = value.seq;
  const fresh = { prompt: value.prompt, seed: value.seed, ahead: null, changed: false };
  state.sides = value.sides.map((side, i) => ({ ...side, ...fresh, i, tokens: [], key: newKey() }));
  find(".wr-sides").replaceChildren(...state.sides.map(sideNode));
  find(".wr-place").hidden = false;
  for (const side of state.sides) caretOf(side).tabIndex = 0;
  hold(state.sides[0], END);
  setWriting(false);
}

function sideNode(side) {
  const node = make("section", "wr-side");
  const [head, copy] = [make("p", "wr-head"), make("button", "look-link", "Copy")];
  copy.type = "button";
  copy.addEventListener("click", () => copyText(copy, written(side)));
  side.about = make("span");
  head.append(side.about, copy);
  side.text = make("div", "wr-text look-text");
  side.text.setAttribute("role", "listbox");
  side.text.ariaLabel = `What ${side.title} writes, token by token`;
  side.text.dataset.side = side.i;
  side.text.append(make("span", "wr-prompt", side.prompt), tokenNode("wr-caret", "", "What comes next", END));
  node.append(head, side.text);
  return node;
}

function tokenNode(kind, text, name, i) {
  const node = make("bdi", `wr-token ${kind}`, text);
  node.setAttribute("role", "option");
  if (!text) node.ariaLabel = name;
  node.ariaSelected = "false";
  node.tabIndex = -1;
  node.dataset.i = i;
  return node;
}

const caretOf = (side) => side.text.lastElementChild;
const nodeOf = (side, i) => side.text.children[Math.min(i, side.tokens.length) + 1]; // after the prompt
const written = (side) => side.prompt + side.tokens.map((token) => token.text).join("");

// What the server says stands from a place on.
function take(side, place, answer) {
  while (side.tokens.length > place) {
    side.tokens.pop();
    caretOf(side).previousElementSibling.remove();
  }
  const atEnd = side.text.scrollHeight - side.text.scrollTop - side.text.clientHeight < 40;
  caretOf(side).before(...answer.tokens.map((token, k) => tokenNode(kindOf(token), token.text, token.name, place + k)));
  side.tokens.push(...answer.tokens);
  side.ahead = answer.ahead;
  if (atEnd) side.text.scrollTop = side.text.scrollHeight;
  showAbout(side);
}

function kindOf({ chosen, text }) {
  const kinds = { "wr-chosen": chosen, "wr-line": text.includes("\n"), "wr-part": !text };
  return Object.keys(kinds).filter((kind) => kinds[kind]).join(" ");
}

function showAbout(side) {
  const number = state.sides.length > 1 ? `${side.i + 1} · ` : "";
  const figures = ` · ${settingsLine(side.settings)} · ${tokens(side.tokens.length)}`;
  side.about.replaceChildren(make("b", "", number + side.title), figures);
}

const settingsLine = ([temperature, k, p]) =>
  `temperature ${temperature}, top-k ${k || "off"}, top-p ${p < 1 ? p : "off"}`;

// ---- Writing on ----

// Asks the server about one side, and shows what it says from a place on; false if it had nothing.
async function consult(side, place, call) {
  const { seq } = state;
  const answer = await ask(call);
  if (seq !== state.seq) return false;
  if (answer.error) {
    say(answer.error);
    return false;
  }
  take(side, place, answer);
  return true;
}

const pull = (side, count) =>
  consult(side, side.tokens.length, () => server.more([side.id, side.tokens.length, count, side.settings]));

async function writeTo(side, goal) {
  while (state.writing && side.tokens.length < goal) {
    const before = side.tokens.length;
    if (!(await pull(side, goal - before)) || side.tokens.length === before) return;
  }
}

// Has the sides write until each has so many tokens: together, each as fast as its model is.
async function write(goals, done = () => "Written.") {
  const { seq } = state;
  setWriting(true);
  say("");
  await Promise.all([...goals].map(([side, goal]) => writeTo(side, goal)));
  if (seq !== state.seq) return;
  const stopped = !state.writing;
  setWriting(false);
  if (!find(".wr-state").textContent) say(stopped ? "Stopped." : done());
  rememberAll();
}

function setWriting(on) {
  state.writing = on;
  find(".wr-stop").disabled = !on;
  for (const button of element.querySelectorAll(".wr-one, .wr-on, .wr-type button")) button.disabled = on;
  element.dataset.writing = on;
  tell(state.held.side, state.held.i);
}

const say = (sentence) => (find(".wr-state").textContent = sentence);
const length = () => props.value.length;

// On to the length that is wanted, or as much again.
const goOn = (side) => (side.tokens.length < length() ? length() : side.tokens.length + length());

async function oneToken() {
  hold(state.held.side, END);
  await write(new Map(state.sides.map((side) => [side, side.tokens.length + 1])), lastDrawn);
}

function lastDrawn() {
  const drawn = state.sides.map(({ tokens }) => `${visible(tokens.at(-1).name)} with ${share(tokens.at(-1).p)}`);
  return `Drawn: ${drawn.join("; ")}.`;
}

// Puts another token at a place. In the middle of a text it is gone on with from there, to where it had been.
async function change(call) {
  const { side } = state.held;
  const before = side.tokens.length;
  const i = Math.min(state.held.i, before);
  say("");
  if (i < before) side.key = newKey(); // the text as it was stays in the history
  if (!(await consult(side, i, () => call(side, i)))) return;
  hold(side, i < before ? i : END);
  if (i < before) await write(new Map([[side, before]]));
  else rememberAll();
}

// ---- One place ----

// What is held stays in view when the pointer leaves the text.
function hold(side, i) {
  const before = state.held && nodeOf(state.held.side, state.held.i);
  before?.classList.remove("wr-held");
  for (const node of side.text.querySelectorAll("[tabindex='0']")) node.tabIndex = -1; // a text is one stop of Tab
  state.held = { side, i };
  nodeOf(side, i).tabIndex = 0;
  nodeOf(side, i).classList.add("wr-held");
  tell(side, i);
}

function tell(side, i) {
  const token = side.tokens[i];
  const place = token ?? side.ahead;
  light(nodeOf(side, i));
  Object.assign(element.dataset, { side: side.i, place: Math.min(i, side.tokens.length) });
  find(".wr-place tbody").replaceChildren(...(place ? rowsOf(place, token, side) : []));
  const where = state.sides.length > 1 ? `Text ${side.i + 1}: ` : "";
  find(".wr-told").replaceChildren(where, ...(token ? aboutToken(token) : ["What comes next?"]));
  if (place) find(".wr-told").append(" ", cutLine(place, side));
}

function light(node) {
  if (state.lit) state.lit.ariaSelected = "false";
  state.lit?.classList.remove("wr-lit");
  state.lit = node;
  node.ariaSelected = "true";
  node.classList.add("wr-lit");
}

function aboutToken(token) {
  const how = token.chosen ? "chosen by you; it is drawn with" : "drawn with";
  return [make("bdi", "wr-name", visible(token.name)), ` ${how} ${share(token.p)}, rank ${token.rank}.`];
}

function cutLine({ n, lost }, { settings }) {
  if (!(settings[0] > 0)) return "Temperature 0 takes the likeliest.";
  if (!(settings[1] > 0) && !(settings[2] < 1)) return "Nothing is cut off.";
  return `${tokens(n)} can be drawn; top-k and top-p cut off ${share(lost)}.`;
}

function share(p) {
  return p > 0 && p < 0.0005 ? "< 0.1 %" : percent(p);
}

// The likeliest tokens of a place; and the one that stands there, if it is not among them.
function rowsOf(place, token, side) {
  const rows = place.rows.map(([id, name, uncut, p], rank) => rowNode(id, name, uncut, p, rank, token, side));
  if (token && !place.rows.some(([id]) => id === token.id))
    rows.push(rowNode(token.id, token.name, token.uncut, token.p, token.rank - 1, token, side));
  return rows;
}

function rowNode(id, name, uncut, p, rank, token, side) {
  const [temperature, top_k, top_p] = side.settings;
  const cut = p === 0 ? cutBy(rank, p, { temperature, top_k, top_p }) || "cut" : "";
  const row = make("tr", [id === token?.id && "wr-here", cut && "wr-cut"].filter(Boolean).join(" "));
  const button = make("button", "look-button");
  button.type = "button";
  button.append(make("bdi", "", visible(name)));
  button.disabled = state.writing;
  button.addEventListener("click", () => {
    change((side, i) => server.choose([side.id, i, id, side.settings]));
  });
  const cells = [uncut, p].map((value) => {
    const cell = make("td", "look-bar", share(value));
    cell.style.setProperty("--share", value);
    return cell;
  });
  if (cut) cells[1].textContent = cut;
  const head = make("th");
  head.scope = "row";
  head.append(button);
  row.append(head, ...cells);
  return row;
}

// ---- The history ----

const newKey = () => `${Date.now().toString(36)}${Math.random().toString(36).slice(2)}`;

// What is kept in this browser, the newest last. It may be blocked, full, or anybody's doing.
function recall() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEPT_UNDER) ?? "[]");
    return kept.filter((entry) => typeof entry.text === "string" && typeof entry.about === "string");
  } catch {
    return [];
  }
}

function store(entries) {
  let room = MOST_CHARACTERS;
  const newest = entries.slice(-MOST_KEPT).reverse();
  const kept = newest.filter((entry, i) => (room -= entry.text.length) >= 0 || i === 0).reverse();
  try {
    localStorage.setItem(KEPT_UNDER, JSON.stringify(kept));
  } catch {
    say("This browser keeps no more texts: copy what you need.");
  }
  showHistory();
}

function rememberAll() {
  const begun = state.sides.filter((side) => side.tokens.length);
  const entries = begun.map((side) => ({ key: side.key, about: about(side), text: written(side) }));
  const keys = entries.map((entry) => entry.key);
  store([...recall().filter((entry) => !keys.includes(entry.key)), ...entries]);
}

function about(side) {
  const nChosen = side.tokens.filter((token) => token.chosen).length;
  return [
    side.title,
    settingsLine(side.settings),
    `seed ${side.seed}`,
    tokens(side.tokens.length),
    nChosen && `${nChosen} chosen by hand`,
    side.changed && "settings changed on the way",
  ].filter(Boolean).join(" · ");
}

function showHistory() {
  const entries = recall().reverse();
  find(".wr-history summary").textContent = `Written before (${entries.length})`;
  find(".wr-history").hidden = !entries.length;
  if (find(".wr-history").open) find(".wr-history ol").replaceChildren(...entries.map(entryNode));
  element.dataset.kept = entries.length;
}

function entryNode({ key, about, text }) {
  const node = make("li");
  const buttons = make("div");
  const button = (label, action) => {
    const made = make("button", "look-link", label);
    made.type = "button";
    made.addEventListener("click", () => action(made));
    buttons.append(made);
  };
  button("Copy", (made) => copyText(made, text));
  button("Copy with settings", (made) => copyText(made, `${about}\n\n${text}`));
  button("Remove", () => store(recall().filter((entry) => entry.key !== key)));
  const box = make("div", "look-text");
  box.tabIndex = 0;
  box.append(make("bdi", "", text));
  node.append(make("p", "wr-about", about), box, buttons);
  return node;
}

async function copyText(button, text) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyByHand(text); // a page without https has no clipboard of its own
  }
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = label), 1500);
}

function copyByHand(text) {
  const area = make("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

// ---- What a visitor does ----

const tokenAt = (node) => node?.closest?.(".wr-token");
const placeOf = (node) => [state.sides[node.parentElement.dataset.side], Number(node.dataset.i)];
const sides = find(".wr-sides");

sides.addEventListener("pointerover", (event) => tokenAt(event.target) && tell(...placeOf(tokenAt(event.target))));
sides.addEventListener("pointerleave", () => state.held && tell(state.held.side, state.held.i));
sides.addEventListener("click", (event) => tokenAt(event.target) && hold(...placeOf(tokenAt(event.target))));
sides.addEventListener("keydown", (event) => {
  const step = ARROWS[event.key];
  const node = tokenAt(event.target);
  if (!step || !node) return;
  event.preventDefault();
  const [side, i] = placeOf(node);
  const to = Math.max(Math.min(i, side.tokens.length) + step[0] + step[1], 0);
  hold(side, to < side.tokens.length ? to : END);
  nodeOf(side, to).focus();
});
find(".wr-stop").addEventListener("click", () => (state.writing = false));
find(".wr-one").addEventListener("click", oneToken);
find(".wr-on").addEventListener("click", () => write(new Map(state.sides.map((side) => [side, goOn(side)]))));
find(".wr-type").addEventListener("submit", (event) => {
  event.preventDefault();
  const typed = find(".wr-type input").value;
  find(".wr-type input").value = "";
  change((side, i) => server.put([side.id, i, typed, side.settings]));
});
find(".wr-history").addEventListener("toggle", showHistory);
find(".wr-clear").addEventListener("click", () => store([]));

async function draw() {
  const { value } = props;
  if (!value) return;
  const isNew = value.seq !== state.seq;
  if (isNew) build(value);
  for (const side of state.sides) {
    const settings = value.settings[side.i];
    side.changed ||= side.tokens.length > 0 && String(settings) !== String(side.settings);
    side.settings = settings;
    showAbout(side);
  }
  if (isNew && value.write) await write(new Map(state.sides.map((side) => [side, value.length])));
  else if (!state.writing) await Promise.all(state.sides.map((side) => pull(side, 0)));
  if (state.seq === value.seq && !state.writing) tell(state.held.side, state.held.i);
}
watch("value", draw);
showHistory();
draw();
