// What each head is for: see head_table.py for the value and what the server sends.

const EMPTY = "Press Show attention to look at a model's heads.";
const SHARES = ["previous", "first", "same", "induction", "local", "uniform"];
const COLUMNS = [
  ["head", "Head"], ["badge", "badge"], ...SHARES.map((name) => [name, name]),
  ["entropy", "entropy, bits"], ["reach", "reach, tokens"],
];

const find = (selector) => element.querySelector(selector);
const state = { rows: [], sorted: "head" };

const load = loadWhileOpen(EMPTY, () => server.scores(props.value.id), (rows) => {
  state.rows = rows;
  fillFilter();
  show();
});

function fillFilter() {
  const chosen = find(".ht-filter").value;
  const badges = SHARES.filter((name) => state.rows.some((row) => row.badge === name));
  find(".ht-filter").replaceChildren(new Option("all heads", ""), ...badges.map((name) => new Option(`${name} heads`, name)));
  find(".ht-filter").value = badges.includes(chosen) ? chosen : "";
}

// By layer and head, by badge, or by falling score.
function compare(a, b) {
  const byPlace = a.layer - b.layer || a.head - b.head;
  if (state.sorted === "head") return byPlace;
  if (state.sorted === "badge") return b.badge.localeCompare(a.badge) || byPlace;
  return b[state.sorted] - a[state.sorted] || byPlace;
}

function show() {
  const wanted = find(".ht-filter").value;
  const rows = state.rows.filter((row) => !wanted || row.badge === wanted).sort(compare);
  for (const button of element.querySelectorAll("thead button")) {
    const direction = state.sorted === "head" ? "ascending" : "descending";
    button.parentElement.ariaSort = button.dataset.column === state.sorted ? direction : "none";
  }
  find("tbody").replaceChildren(...rows.map(line));
}

function line(row) {
  const choose = make("button", "look-link", headName([row.layer, row.head]));
  choose.type = "button";
  choose.title = "Show this head";
  choose.addEventListener("click", () => {
    document.dispatchEvent(new CustomEvent(HEAD_CHOSEN, { detail: { layer: row.layer, head: row.head } }));
  });
  const name = make("th");
  name.scope = "row";
  name.append(choose);
  const badge = make("td");
  if (row.badge) badge.append(make("span", "ht-badge", row.badge));
  const node = make("tr");
  node.append(name, badge, ...SHARES.map((score) => share(row, score)));
  node.append(make("td", "", row.entropy.toFixed(2)), make("td", "", row.reach.toFixed(1)));
  return node;
}

function share(row, score) {
  const cell = make("td", "look-bar", row[score].toFixed(3));
  cell.style.setProperty("--share", row[score]);
  return cell;
}

function buildHead() {
  const cells = COLUMNS.map(([column, title]) => {
    const button = make("button", "look-plain", title);
    button.type = "button";
    button.dataset.column = column;
    const cell = make("th");
    cell.scope = "col";
    cell.append(button);
    return cell;
  });
  find("thead tr").replaceChildren(...cells);
}

buildHead();
find(".ht-filter").addEventListener("change", show);
find("thead").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  state.sorted = button.dataset.column;
  show();
});
watch("value", load);
load();
