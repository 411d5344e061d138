// The distribution of the next token: see next_token.py for the value.

const PROMPT_CHARACTERS = 60;

const find = (selector) => element.querySelector(selector);
let shown = null; // the forward pass in the picture: {seq, packed, logits, order, rows}

function percent(p) {
  if (p === 0) return "0 %";
  return p < 0.0005 ? "< 0.1 %" : (100 * p).toFixed(1) + " %";
}

function rowNode(id, text, uncut) {
  const node = make("li", "row");
  const track = make("span", "track");
  const bar = make("span", "now");
  const outline = make("span", "uncut");
  outline.style.width = `${100 * uncut}%`;
  track.setAttribute("aria-hidden", "true");
  track.append(outline, bar);
  const figure = make("span", "figure");
  const label = make("bdi", "text", visible(text));
  node.title = `id ${id}, ${percent(uncut)} at temperature 1 with nothing cut`;
  node.append(label, track, figure);
  return { id, node, bar, figure };
}

function promptLine(prompt) {
  const characters = [...prompt];
  const tail = characters.slice(-PROMPT_CHARACTERS).join("");
  const start = characters.length > PROMPT_CHARACTERS ? "…" : "";
  return `After “${start}${visible(tail)}” comes`;
}

// A new forward pass: new rows, the most likely tokens first.
function build(value) {
  const logits = unpack(value.logits, Float32Array); // (V,)
  const order = ranking(logits);
  const uncut = distribution(logits, 1, 0, 1, order);
  const rows = JSON.parse(value.rows).map(([id, text]) => rowNode(id, text, uncut[id]));
  find(".prompt").textContent = promptLine(value.prompt);
  find(".rows").replaceChildren(...rows.map((row) => row.node));
  return { seq: value.seq, packed: value.logits, logits, order, rows };
}

// New settings: the same rows, other widths.
function update(value) {
  const probs = distribution(shown.logits, value.temperature, value.top_k, value.top_p, shown.order);
  shown.rows.forEach(({ id, node, bar, figure }, rank) => {
    const cut = cutBy(rank, probs[id], value);
    bar.style.width = `${100 * probs[id]}%`;
    figure.textContent = cut || percent(probs[id]);
    node.classList.toggle("cut", cut !== "");
  });
  const drawable = probs.reduce((n, p) => n + (p > 0), 0).toLocaleString("en");
  const size = probs.length.toLocaleString("en");
  find(".summary").textContent =
    `entropy ${entropyBits(probs).toFixed(2)} bits · ${drawable} of ${size} tokens can be drawn`;
  element.dataset.rows = JSON.stringify(shown.rows.map(({ id }) => [id, probs[id]]));
}

function draw() {
  const value = props.value;
  find(".empty").hidden = Boolean(value);
  find(".filled").hidden = !value;
  element.dataset.seq = value ? value.seq : "";
  if (!value) {
    shown = null;
    delete element.dataset.rows;
    return;
  }
  const samePass = shown && shown.seq === value.seq && shown.packed === value.logits;
  if (!samePass) shown = build(value);
  update(value);
}

offerFigure(find(".figure-buttons"), (kind) => {
  const { visitor, prompt, temperature, top_k, top_p } = props.value;
  return server.figure([visitor, prompt, [temperature, top_k ?? 0, top_p], kind]);
});
watch("value", draw);
draw();
