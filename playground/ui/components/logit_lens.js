// The logit lens: see logit_lens.py for the value and what the server sends.

const EMPTY = "Press Show attention to look at a prompt.";

const find = (selector) => element.querySelector(selector);
const state = { id: null, position: -1 };

const load = loadWhileOpen(EMPTY, () => server.lens([props.value.id, state.position]), show);

function show({ position, tokens, rows }) {
  offerTokens(find(".ll-position"), tokens, position);
  const longest = Math.max(...rows.map((row) => row.length));
  find("tbody").replaceChildren(...rows.map((row) => line(row, longest)));
  element.dataset.position = position;
}

function line({ name, length, top }, longest) {
  const title = make("th", "", name);
  title.scope = "row";
  const added = make("td", "look-bar", length.toFixed(2));
  added.style.setProperty("--share", length / longest);
  const words = make("td", "ll-words");
  words.append(...top.map(word));
  const row = make("tr");
  row.append(title, added, words);
  return row;
}

function word([text, p]) {
  const node = make("span", "ll-word");
  node.style.setProperty("--p", p);
  node.append(make("bdi", "", visible(text)), make("small", "", ` ${(100 * p).toFixed(1)} %`));
  return node;
}

find(".ll-position").addEventListener("change", (event) => {
  state.position = Number(event.target.value);
  load();
});
watch("value", () => {
  const id = props.value?.id;
  if (id !== state.id) [state.id, state.position] = [id, -1]; // another trace
  load();
});
load();
