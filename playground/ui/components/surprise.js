// Shared by texts in the colours of their losses; stands before each component's own script.

const MOST = 8; // nats; what surprises more has the colour of that

element.querySelector(".surprise-scale").append("0 nats", make("i"), `${MOST} nats and more`);

// Fills a box with the tokens of a text, and returns their nodes.
function showTokens(box, tokens) {
  const nodes = tokens.map((text, i) => {
    const node = make("bdi", "surprise-token", inText(text));
    node.setAttribute("role", "option");
    node.ariaSelected = "false";
    node.tabIndex = i ? -1 : 0;
    node.dataset.i = i;
    return node;
  });
  box.replaceChildren(...nodes.flatMap((node, i) => (tokens[i].endsWith("\n") ? [node, make("br")] : [node])));
  return nodes;
}

// Gives each token the one of `colours`, which `heatLevels` makes, that its loss has; none where that is not known (NaN).
function paintTokens(nodes, losses, colours) {
  nodes.forEach((node, i) => {
    if (Number.isNaN(losses[i])) return;
    const [r, g, b] = colours[Math.round(255 * Math.min(losses[i] / MOST, 1))];
    node.style.background = `rgb(${r} ${g} ${b})`;
    node.style.color = luminance(r, g, b) > 0.179 ? "#000" : "#fff"; // whichever of the two is farther from it
  });
}

// Of WCAG 2: 0 of black to 1 of white.
function luminance(...parts) {
  const [r, g, b] = parts.map((part) => ((part / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

// The pointer and the arrow keys read boxes that show the same tokens: one is lit in all of them, and `tell` gets its
// place, or null. Returns what lights one.
function readTokens(boxes, tell) {
  const tokenAt = (node) => node?.closest?.(".surprise-token");
  const nodesOf = (box) => [...box.querySelectorAll(".surprise-token")];

  function light(place) {
    for (const node of boxes.flatMap(nodesOf)) {
      const lit = Number(node.dataset.i) === place;
      node.classList.toggle("surprise-lit", lit);
      node.ariaSelected = String(lit);
    }
    tell(place);
  }

  function point({ target }) {
    if (tokenAt(target)) light(Number(tokenAt(target).dataset.i));
  }

  function rest() {
    const focused = tokenAt(document.activeElement);
    light(boxes.some((box) => box.contains(focused)) ? Number(focused.dataset.i) : null);
  }

  function move(event) {
    const step = ARROWS[event.key];
    const node = tokenAt(event.target);
    if (!step || !node) return;
    event.preventDefault();
    const nodes = nodesOf(event.currentTarget);
    const next = nodes[Math.min(Math.max(nodes.indexOf(node) + step[0] + step[1], 0), nodes.length - 1)];
    node.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }

  for (const box of boxes) {
    box.addEventListener("pointerover", point);
    box.addEventListener("pointerleave", rest);
    box.addEventListener("focusin", point);
    box.addEventListener("focusout", rest);
    box.addEventListener("keydown", move);
  }
  return light;
}

// The probability of a token that has this loss.
function probability(loss) {
  const p = 100 * Math.exp(-loss);
  return `${p < 0.001 ? "less than 0.001" : p.toFixed(p < 1 ? 3 : 1)} %`;
}

// A table's row of a token and its probability; `right` is the one that stands in the text.
function tokenLine(text, p, right, words = percent(p)) {
  const name = make("th", right ? "surprise-right" : "");
  name.scope = "row";
  name.append(make("bdi", "", visible(text)));
  const bar = make("td", "look-bar", words);
  bar.style.setProperty("--share", p);
  const node = make("tr", "surprise-line");
  node.append(name, bar);
  return node;
}
