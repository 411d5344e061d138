// Quality against diversity: see sweep_view.py for the value.

// Title, what it means, digits, and how far from held-out text is far.
const PARTS = [
  ["Bits a token by the 5-gram model", "lower is more like the training text, copied or dull", 2, 1],
  ["Distinct passages of 3 tokens", "lower goes round in circles", 3, 0.2],
];

const find = (selector) => element.querySelector(selector);

function show() {
  const { value } = props;
  find(".sm-empty").hidden = Boolean(value);
  find(".sm-shown").hidden = !value;
  if (!value) return;
  find("progress").value = value.share;
  find("progress").hidden = value.share === 1;
  find(".sm-tables").replaceChildren(...PARTS.map((_, part) => table(value, part)));
  const [bits, distinct] = value.held_out;
  find(".sm-about").textContent =
    `Held-out text of the same length has ${bits.toFixed(2)} bits a token and ${distinct.toFixed(3)} distinct passages: ` +
    "what is blue is below it, what is orange above, and the palest cell is the most like it.";
  element.dataset.cells = value.cells.length;
}

function table({ temperatures, top_ks, cells, held_out }, part) {
  const [title, about, digits, far] = PARTS[part];
  const node = make("table");
  const caption = make("caption", "", title);
  caption.append(" ", make("small", "", about));
  const head = make("tr");
  head.append(make("th", "", "temperature"), ...top_ks.map((k) => make("th", "", k ? `top-k ${k}` : "no top-k")));
  const rows = temperatures.map((temperature, row) => {
    const line = make("tr");
    const name = make("th", "", temperature.toFixed(1));
    name.scope = "row";
    line.append(name, ...top_ks.map((_, column) => cellNode(cells[row * top_ks.length + column]?.[part])));
    return line;
  });
  const body = make("tbody");
  body.append(head, ...rows);
  node.append(caption, body);
  return node;

  function cellNode(figure) {
    const cell = make("td", "", figure === undefined ? "…" : figure.toFixed(digits));
    if (figure === undefined) return cell;
    const away = (figure - held_out[part]) / far;
    cell.style.setProperty("--away", `${60 * Math.min(Math.abs(away), 1)}%`);
    cell.className = away < 0 ? "sm-below" : "sm-above";
    return cell;
  }
}

watch("value", show);
show();
