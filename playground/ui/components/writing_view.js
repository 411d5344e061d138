// Texts as models write them: see writing_view.py for the value and what the server sends. The page asks for the tokens
// a few at a time, so that to stop is not to ask for more. It says which edition of the text it has and how much of it,
// so that it gets with the next answer what was in one that was lost.

const KEPT_UNDER = "transformer-playground-texts";
const MOST_KEPT = 40; // texts of the history
const MOST_CHARACTERS = 400_000; // of it, which the browser has room for

const find = (selector) => element.querySelector(selector);
const tokens = (n) => `${n.toLocaleString("en")} token${n === 1 ? "" : "s"}`;
const ROWS = 4; // of the first of the two tables
const END = Infinity; // the place after a text's last token, wherever that is
const state = { seq: null, id: null, sides: [], held: null, shown: null, writing: false }; // held, shown: {side, i}

// ---- A text ----

// A side is {i, title, prompt, seed, settings, tokens, edition, ahead, asked, requests, key, about, text, list}: its
// settings are those of what is written next, `ahead` is for those that were `asked` for, and the last three are nodes.
function build({ seq, id, prompt, seed, titles }) {
  if (state.writing) rememberAll();
  element.dataset.seq = state.seq = seq;
  Object.assign(state, { id, shown: null });
  const fresh = { prompt, seed, edition: 0, ahead: null, asked: null, requests: 0 };
  state.sides = titles.map((title, i) => ({ i, title, ...fresh, tokens: [], key: newKey() }));
  find(".wr-sides").replaceChildren(...state.sides.map(sideNode));
  find(".wr-place").hidden = false;
  for (const side of state.sides) {
    side.text.scrollTop = side.text.scrollHeight; // of a long prompt the end, where the text goes on
  }
  hold({ side: state.sides[0], i: END });
  setWriting(false);
  say("");
}

function sideNode(side) {
  const node = make("section", "wr-side");
  const [head, copy] = [make("p", "wr-head"), make("button", "look-link", "Copy")];
  copy.type = "button";
  copy.addEventListener("click", () => copyText(copy, written(side)));
  side.about = make("span");
  head.append(side.about, copy);
  side.list = make("span");
  side.list.setAttribute("role", "listbox");
  side.list.ariaLabel = `What ${side.title} writes, token by token`;
  side.list.dataset.side = side.i;
  side.list.append(tokenNode("wr-caret", "", "What comes next", END));
  caretOf(side).tabIndex = 0;
  side.text = make("div", "wr-text look-text");
  side.text.append(make("span", "wr-prompt", side.prompt), side.list);
  node.append(head, side.text);
  return node;
}

function tokenNode(kind, text, name, i) {
  const node = make("bdi", `wr-token ${kind}`, text);
  node.setAttribute("role", "option");
  if (!text.trim()) node.ariaLabel = visible(name);
  node.ariaSelected = "false";
  node.tabIndex = -1;
  node.dataset.i = i;
  return node;
}

const caretOf = (side) => side.list.lastElementChild;
const nodeOf = ({ side, i }) => side.list.children[Math.min(i, side.tokens.length)];
const written = (side) => side.prompt + side.tokens.map((token) => token.text).join("");

// What the server says stands from a place on.
function take(side, { edition, place, tokens, ahead }) {
  if (place < side.tokens.length) side.key = newKey(); // the text as it was stays in the history
  while (side.tokens.length > place) {
    side.tokens.pop();
    caretOf(side).previousElementSibling.remove();
  }
  if (!side.list.querySelector("[tabindex='0']")) caretOf(side).tabIndex = 0;
  const atEnd = side.text.scrollHeight - side.text.scrollTop - side.text.clientHeight < 40;
  caretOf(side).before(...tokens.map((token, k) => writtenNode(token, place + k)));
  side.tokens.push(...tokens);
  Object.assign(side, { edition, ahead });
  if (atEnd) side.text.scrollTop = side.text.scrollHeight;
  showAbout(side);
}

function writtenNode({ text, name, chosen, uncut }, i) {
  const kinds = { "wr-chosen": chosen, "wr-line": text.includes("\n"), "wr-part": !text };
  const node = tokenNode(Object.keys(kinds).filter((kind) => kinds[kind]).join(" "), text, name, i);
  node.style.setProperty("--p", uncut);
  return node;
}

function showAbout(side) {
  const number = state.sides.length > 1 ? `${side.i + 1} · ` : "";
  side.about.replaceChildren(make("b", "", number + side.title), ` · ${drawnWith(side)} · ${tokens(side.tokens.length)}`);
}

// The settings that a text was written with, which may have changed on the way.
function drawnWith(side) {
  const [first, second] = stretches(side);
  return settingsLine(first?.settings ?? side.settings) + (second ? " at first, changed on the way" : "");
}

const stretchLine = ({ settings, n }, i, all) => settingsLine(settings) + (all.length > 1 ? ` (${tokens(n)})` : "");

// How many tokens in turn have the same settings.
function stretches(side) {
  const found = [];
  for (const { settings } of side.tokens) {
    if (String(found.at(-1)?.settings) !== String(settings)) found.push({ settings, n: 0 });
    found.at(-1).n++;
  }
  return found;
}

const settingsLine = ([temperature, k, p]) =>
  `temperature ${temperature}, top-k ${k || "off"}, top-p ${p < 1 ? p : "off"}`;

// ---- Writing on ----

// Asks the server about one side, and shows what it says; false if it had nothing. Only the last question's answer
// counts.
async function consult(side, call) {
  const { seq } = state;
  const request = ++side.requests;
  side.asked = side.settings;
  const answer = await ask(() => call([state.id, side.i, side.edition]));
  if (seq !== state.seq || request !== side.requests) return false;
  if (answer.error) {
    say(answer.error);
    return false;
  }
  take(side, answer);
  return true;
}

const pull = (side, count) =>
  consult(side, (which) => server.more([...which, side.tokens.length, count, side.settings]));

async function writeTo(side, goal) {
  while (state.writing && side.tokens.length < goal) {
    const before = side.tokens.length;
    if (!(await pull(side, goal - before)) || side.tokens.length === before) return;
  }
}

// What comes next, by settings that have changed meanwhile.
async function lookAhead() {
  const changed = state.sides.filter((side) => side.asked !== side.settings);
  await Promise.all(changed.map((side) => pull(side, 0)));
  show(state.shown);
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
  await lookAhead();
}

// What waits is not `disabled`: a button that is would lose the keyboard.
function setWriting(on) {
  state.writing = on;
  find(".wr-stop").ariaDisabled = !on;
  for (const button of element.querySelectorAll(".wr-one, .wr-on, .wr-place button")) button.ariaDisabled = on;
  element.dataset.writing = on;
  show(state.shown);
}

const say = (sentence) => (find(".wr-state").textContent = sentence);
const length = () => props.value.length;

// On to the length that is wanted, or as much again.
const goOn = (side) => (side.tokens.length < length() ? length() : side.tokens.length + length());

async function oneToken() {
  hold({ side: state.held.side, i: END });
  await write(new Map(state.sides.map((side) => [side, side.tokens.length + 1])), lastDrawn);
}

function lastDrawn() {
  const drawn = state.sides.map(({ tokens }) => `${visible(tokens.at(-1).name)} with ${share(tokens.at(-1).p)}`);
  return `Drawn: ${drawn.join("; ")}.`;
}

// Puts another token at a place; `call` gets the side and it. In the middle of a text it is gone on with from there, to
// where it had been. Returns whether it stands there.
async function change({ side, i }, call) {
  const { seq } = state;
  const before = side.tokens.length;
  const place = Math.min(i, before);
  say("");
  setWriting(true);
  const done = await consult(side, (which) => call([...which, place]));
  if (seq !== state.seq) return false;
  setWriting(false);
  if (!done) return false;
  hold({ side, i: place < before ? place : END });
  if (place < before) await write(new Map([[side, before]]));
  else rememberAll();
  return true;
}

// ---- One place ----

// What is held stays in view when the pointer leaves the text.
function hold(place) {
  if (state.held) {
    nodeOf(state.held).classList.remove("wr-held");
    nodeOf(state.held).ariaSelected = "false";
  }
  for (const node of place.side.list.querySelectorAll("[tabindex='0']")) node.tabIndex = -1; // one stop of Tab
  state.held = place;
  nodeOf(place).tabIndex = 0;
  nodeOf(place).classList.add("wr-held");
  nodeOf(place).ariaSelected = "true";
  show(place);
}

// What the panel says is of this place, and so is what its buttons do.
function show(place) {
  const { side, i } = (state.shown = place);
  const token = side.tokens[i];
  const found = token ?? side.ahead;
  const settings = token?.settings ?? side.settings;
  light(nodeOf(place));
  Object.assign(element.dataset, { side: side.i, place: Math.min(i, side.tokens.length) });
  showRows(found ? rowsOf(found, token, settings) : []);
  const where = state.sides.length > 1 ? `Text ${side.i + 1}: ` : "";
  find(".wr-told").replaceChildren(where, ...(token ? aboutToken(token) : ["What comes next?"]));
  if (found) find(".wr-told").append(" ", cutLine(found, settings));
}

function light(node) {
  element.querySelector(".wr-lit")?.classList.remove("wr-lit");
  node.classList.add("wr-lit");
}

// The keyboard stays at the row where it was.
function showRows(rows) {
  const buttons = () => [...element.querySelectorAll(".wr-rows button")];
  const at = buttons().indexOf(document.activeElement);
  const [first, second] = element.querySelectorAll(".wr-rows tbody");
  first.replaceChildren(...rows.slice(0, ROWS));
  second.replaceChildren(...rows.slice(ROWS));
  buttons()[at]?.focus({ preventScroll: true });
}

function aboutToken(token) {
  const how = token.chosen ? "chosen by you; it is drawn with" : "drawn with";
  const rank = `rank ${token.rank}, at temperature ${token.settings[0]}.`;
  return [make("bdi", "wr-name", visible(token.name)), ` ${how} ${share(token.p)}, ${rank}`];
}

function cutLine({ n, lost }, [temperature, top_k, top_p]) {
  if (!(temperature > 0)) return "Temperature 0 takes the likeliest.";
  if (!(top_k > 0) && !(top_p < 1)) return "Nothing is cut off.";
  return `${tokens(n)} can be drawn; top-k and top-p cut off ${share(lost)}.`;
}

function share(p) {
  return p > 0 && p < 0.0005 ? "< 0.1 %" : percent(p);
}

// The likeliest tokens of a place; and the one that stands there, if it is not among them.
function rowsOf(found, token, settings) {
  const rows = found.rows.map((row, rank) => [...row, rank]);
  if (token && !rows.some(([id]) => id === token.id))
    rows.push([token.id, token.name, token.uncut, token.p, token.rank - 1]);
  return rows.map((row) => rowNode(row, token, settings));
}

function rowNode([id, name, uncut, p, rank], token, [temperature, top_k, top_p]) {
  const cut = p === 0 ? cutBy(rank, p, { temperature, top_k, top_p }) || "cut" : "";
  const row = make("tr", [id === token?.id && "wr-here", cut && "wr-cut"].filter(Boolean).join(" "));
  const button = make("button", "look-button");
  button.type = "button";
  button.append(make("bdi", "", visible(name)));
  button.title = visible(name); // which may be wider than its column
  button.ariaDisabled = state.writing;
  button.dataset.id = id;
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
    stretches(side).map(stretchLine).join(", then "),
    `seed ${side.seed}`,
    tokens(side.tokens.length),
    nChosen && `${tokens(nChosen)} put in by hand`,
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
const placeOf = (node) => ({ side: state.sides[node.parentElement.dataset.side], i: Number(node.dataset.i) });
const sides = find(".wr-sides");

sides.addEventListener("pointerover", (event) => tokenAt(event.target) && show(placeOf(tokenAt(event.target))));
sides.addEventListener("pointerleave", () => state.held && show(state.held));
sides.addEventListener("click", (event) => {
  if (!tokenAt(event.target)) return;
  hold(placeOf(tokenAt(event.target)));
  find(".wr-rows").scrollIntoView({ block: "nearest" }); // on a small screen it is out of sight
});
sides.addEventListener("keydown", (event) => {
  const step = ARROWS[event.key];
  const node = tokenAt(event.target);
  if (!step || !node) return;
  event.preventDefault();
  const { side, i } = placeOf(node);
  const to = Math.max(Math.min(i, side.tokens.length) + step[0] + step[1], 0);
  hold({ side, i: to < side.tokens.length ? to : END });
  nodeOf(state.held).focus();
});
element.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !state.held) return;
  hold({ side: state.held.side, i: END });
  nodeOf(state.held).focus();
});

// Has a control do what it does only while it is not waiting.
function onPress(node, action, event = "click") {
  node.addEventListener(event, (happened) => {
    happened.preventDefault();
    const button = happened.submitter ?? happened.target.closest("button");
    if (button && button.ariaDisabled !== "true") action(button);
  });
}
onPress(find(".wr-stop"), () => (state.writing = false));
onPress(find(".wr-one"), oneToken);
onPress(find(".wr-on"), () => write(new Map(state.sides.map((side) => [side, goOn(side)]))));
onPress(find(".wr-rows"), ({ dataset }) => {
  const { side } = state.shown;
  change(state.shown, (where) => server.choose([...where, Number(dataset.id), side.settings]));
});
onPress(find(".wr-type"), async () => {
  const { side } = state.shown;
  const field = find(".wr-type input");
  if (await change(state.shown, (where) => server.put([...where, field.value, side.settings]))) field.value = "";
}, "submit");
find(".wr-tint input").addEventListener("change", ({ target }) => sides.classList.toggle("wr-tinted", target.checked));
find(".wr-history").addEventListener("toggle", showHistory);
find(".wr-clear").addEventListener("click", () => store([]));

async function draw() {
  const { value } = props;
  if (!value) return;
  const isNew = value.seq !== state.seq;
  if (isNew) build(value);
  for (const side of state.sides) {
    side.settings = value.settings[side.i];
    showAbout(side);
  }
  if (isNew && value.write) return write(new Map(state.sides.map((side) => [side, value.length])));
  if (!state.writing) await lookAhead();
  if (isNew && !find(".wr-state").textContent) say("Ready: press One token, or choose one below.");
}
watch("value", draw);
showHistory();
draw();
