// Memory against invention: see copies_view.py for the value and what the server sends.

const NOVELTY = ["2", "4", "6", "10", "20"]; // of the sizes that the server knows
const HINT = "Point at a marked passage, or use ← and →, to see where it stands.";

const find = (selector) => element.querySelector(selector);
const slider = find(".cv-slider input");
const blocks = [...element.querySelectorAll(".cv-text")];
const state = { texts: [], lit: null };

function show() {
  const { value } = props;
  find(".cv-empty").hidden = Boolean(value);
  find(".cv-written").hidden = !value?.text;
  find(".cv-written").textContent = value?.text ?? "";
  find(".cv-shown").hidden = !value?.id;
  if (!value?.id) return;
  find(".cv-about").textContent = value.about;
  slider.value = value.at_least;
  load();
}

let requests = 0;

async function load() {
  const request = ++requests;
  find(".cv-slider output").textContent = slider.value;
  const answer = await ask(() => server.copies([props.value.id, Number(slider.value)]));
  if (request !== requests) return;
  find(".cv-note").textContent = answer.error ?? answer.note;
  find(".cv-texts").hidden = find(".cv-table").hidden = Boolean(answer.error);
  if (answer.error) return;
  state.texts = answer.texts;
  const [model, heldOut] = answer.texts;
  find(".cv-slider").hidden = !model.copying;
  blocks.forEach((block, i) => {
    block.parentElement.hidden = !answer.texts[i];
    block.replaceChildren(...(answer.texts[i] ? marked(answer.texts[i]) : []));
  });
  find(".cv-verdict").textContent = model.copying ? verdict(model, heldOut) : "";
  find("thead th:last-child").hidden = !heldOut;
  find(".cv-table tbody").replaceChildren(...rows(model, heldOut));
  tell(null);
  Object.assign(element.dataset, { at: slider.value, spans: model.copying?.spans.length ?? "", tokens: model.tokens.length });
}

// ---- The two texts ----

const shapeOf = (text) => inText(text).replaceAll("↵", "↵\n");

// The text in stretches between one border of a span and the next; where two spans overlap, the mark is of the longer.
function marked({ tokens, copying }) {
  const spans = copying?.spans ?? [];
  const borders = new Set([0, tokens.length, ...spans.flatMap(({ start, end }) => [start, end])]);
  const places = [...borders].sort((a, b) => a - b);
  return places.slice(1).map((end, i) => {
    const begin = places[i];
    const text = tokens.slice(begin, end).map(shapeOf).join("");
    const over = spans.map((span, at) => [span.end - span.start, at]).filter(([, at]) => spans[at].start <= begin && spans[at].end >= end);
    if (!over.length) return make("span", "", text);
    const node = make("mark", "", text);
    node.dataset.begin = begin;
    node.dataset.span = over.reduce((a, b) => (b[0] > a[0] ? b : a))[1];
    return node;
  });
}

function tell(mark) {
  for (const piece of element.querySelectorAll(".cv-lit")) piece.classList.remove("cv-lit");
  state.lit = mark;
  if (!mark) return find(".cv-told").replaceChildren(state.texts[0]?.copying ? HINT : "");
  const { copying } = state.texts[blocks.indexOf(mark.parentElement)];
  const { start, end, where, context } = copying.spans[mark.dataset.span];
  for (const piece of mark.parentElement.querySelectorAll("mark")) {
    piece.classList.toggle("cv-lit", piece.dataset.begin >= start && piece.dataset.begin < end);
  }
  const words = `${end - start} tokens, which stand in the training text from token ${(where + 1).toLocaleString("en")} on: `;
  const [before, passage, after] = context;
  find(".cv-told").replaceChildren(words, make("bdi", "cv-around", `…${before}`), make("bdi", "cv-passage", passage), make("bdi", "cv-around", `${after}…`));
}

// ---- The figures ----

function verdict(model, heldOut) {
  return (
    `${percent(model.copying.share)} of what the model wrote stands in its training text in such passages, and ` +
    `${percent(heldOut.copying.share)} of the held-out text, which copied nothing: what is above that is memory.`
  );
}

function rows(model, heldOut) {
  const both = [model, heldOut];
  const line = (name, title, figure) => tableRow(name, title, both.map((text) => (text ? figure(text) : null)));
  const lines = [];
  if (model.copying) {
    const short = model.tokens.length;
    lines.push(line("copied", `in passages of at least ${slider.value} tokens`, ({ copying }) => percent(copying.share)));
    lines.push(line("longest copy", "tokens in a row", ({ copying }) => String(copying.longest)));
    for (const n of NOVELTY.filter((size) => size <= short)) {
      lines.push(line(`new passages of ${n}`, "that the training text has nowhere", ({ copying }) => percent(copying.novelty[n])));
    }
  }
  for (const n of Object.keys(model.diversity.distinct)) {
    lines.push(line(`distinct-${n}`, `different passages of ${n} among all`, ({ diversity }) => diversity.distinct[n].toFixed(3)));
  }
  lines.push(line("repeated", "tokens that also stand among the 128 before", ({ diversity }) => percent(diversity.repeated)));
  lines.push(line("entropy", "bits a token, by how often each comes", ({ diversity }) => diversity.entropy.toFixed(2)));
  return lines;
}

function tableRow(name, title, cells) {
  const head = make("th", "", name);
  head.scope = "row";
  head.append(" ", make("small", "", title));
  const node = make("tr");
  node.dataset.name = name;
  node.append(head, ...cells.filter((cell) => cell !== null).map((cell) => make("td", "", cell)));
  return node;
}

for (const block of blocks) {
  block.addEventListener("pointerover", (event) => tell(event.target.closest("mark")));
  block.addEventListener("pointerleave", () => tell(null));
  block.addEventListener("keydown", (event) => {
    const marks = [...block.querySelectorAll("mark")];
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || !marks.length) return;
    event.preventDefault();
    const at = marks.indexOf(state.lit);
    tell(marks[at < 0 ? 0 : Math.min(Math.max(at + step, 0), marks.length - 1)]);
    state.lit.scrollIntoView({ block: "nearest" });
  });
}
slider.addEventListener("input", load);
watch("value", show);
show();
