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
  find(".sm-title").textContent = value.about;
  find("progress").value = value.share;
  find("progress").hidden = value.share === 1;
  find(".sm-tables").replaceChildren(...PARTS.map((_, part) => table(value, part)));
  find(".sm-about").textContent = value.held_out ? sentence(value) : "Sorting the text that it learned from …";
  element.dataset.cells = value.cells.length;
}

function sentence({ held_out: [bits, distinct], n }) {
  return (
    `Held-out text has ${bits.toFixed(2)} bits a token, and ${percent(distinct)} of its passages of 3 tokens are distinct: ` +
    "what is blue is below that, what is orange above, and good settings are pale in both. " +
    `Each cell is one text of ${n} tokens, so small differences are chance.`
  );
}

function table({ temperatures, top_ks, cells, held_out }, part) {
  const [title, about, digits, far] = PARTS[part];
  const node = make("table");
  const caption = make("caption", "", title);
  caption.append(" ", make("small", "", about));
  const head = make("tr");
  head.append(...["temperature", ...top_ks.map((k) => (k ? `top-k ${k}` : "no top-k"))].map(columnHead));
  const rows = temperatures.map((temperature, row) => {
    const line = make("tr");
    const name = make("th", "", temperature.toFixed(1));
    name.scope = "row";
    line.append(name, ...top_ks.map((_, column) => cellNode(cells[row * top_ks.length + column]?.[part])));
    return line;
  });
  const [top, body] = [make("thead"), make("tbody")];
  top.append(head);
  body.append(...rows);
  node.append(caption, top, body);
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

function columnHead(text) {
  const node = make("th", "", text);
  node.scope = "col";
  return node;
}

watch("value", show);
show();
