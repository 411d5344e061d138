// Tokens and their ids, linked: see token_view.py for the value.

const HINT = "Point at a token, or move with the arrow keys.";
const UNKNOWN = "not in this vocabulary";

const emptyLine = element.querySelector(".empty");
const viewList = element.querySelector(".views");

const grouped = (n) => n.toLocaleString("en");

// The text of a token in a sentence: its spaces stay spaces, what has no shape gets a sign.
const quoted = (text) => "“" + text.split(" ").map(visible).join(" ") + "”";

function describe([id, text, kind], position, count) {
  const length = [...text].length;
  const parts = [`token ${grouped(position + 1)} of ${grouped(count)}`, `id ${id}`, quoted(text)];
  if (kind === "bytes") parts.push("part of a character");
  else parts.push(length === 1 ? "1 character" : `${grouped(length)} characters`);
  if (kind === "unknown") parts.push(UNKNOWN);
  return parts.join(" · ");
}

function tokenNode(tag, [id, , kind], position, text) {
  const node = make(tag, tokenClass(id, kind), text);
  node.setAttribute("role", "option");
  node.dataset.position = position;
  node.tabIndex = position === 0 ? 0 : -1;
  if (kind === "unknown") node.title = UNKNOWN;
  return node;
}

function blockNode(className, label) {
  const block = make("div", `block ${className}`);
  block.setAttribute("role", "listbox");
  block.setAttribute("aria-label", label);
  return block;
}

function textBlock(title, tokens) {
  const block = blockNode("text", `${title}: the text as tokens`);
  fillText(block, tokens, (token, i, text) => tokenNode("bdi", token, i, text));
  return block;
}

function idBlock(title, tokens) {
  const block = blockNode("ids", `${title}: the ids of the tokens`);
  tokens.forEach((token, i) => block.appendChild(tokenNode("span", token, i, String(token[0]))));
  return block;
}

function header(view) {
  const head = make("header", "head");
  head.appendChild(make("h3", "title", view.title));
  if (view.current) head.appendChild(make("span", "mark", "this model’s"));
  head.appendChild(make("p", "counts", view.counts));
  if (view.note) head.appendChild(make("p", "note", view.note));
  return head;
}

// Scrolls the block, never the page, until the token is in sight.
function reveal(node) {
  const block = node.parentElement;
  const top = node.offsetTop;
  const bottom = top + node.offsetHeight;
  if (top < block.scrollTop) block.scrollTop = top;
  else if (bottom > block.scrollTop + block.clientHeight) block.scrollTop = bottom - block.clientHeight;
}

// The token nearest to `from` on the next line in the direction of `step` (1 down, -1 up).
function onNextLine(nodes, from, step) {
  const sameLine = (a, b) => Math.abs(a.offsetTop - b.offsetTop) < a.offsetHeight / 2;
  const distance = (i) => Math.abs(nodes[i].offsetLeft - nodes[from].offsetLeft);
  let i = from;
  while (nodes[i] && sameLine(nodes[i], nodes[from])) i += step;
  if (!nodes[i]) return from;
  let nearest = i;
  for (const line = nodes[i]; nodes[i] && sameLine(nodes[i], line); i += step) {
    if (distance(i) < distance(nearest)) nearest = i;
  }
  return nearest;
}

function target(key, nodes, from) {
  switch (key) {
    case "ArrowLeft": return Math.max(0, from - 1);
    case "ArrowRight": return Math.min(nodes.length - 1, from + 1);
    case "ArrowUp": return onNextLine(nodes, from, -1);
    case "ArrowDown": return onNextLine(nodes, from, 1);
    case "Home": return 0;
    case "End": return nodes.length - 1;
    default: return null;
  }
}

// Lights a token in both blocks, all others of the same id more faintly, and says what it is.
function lighter(tokens, count, blocks, readout) {
  const places = new Map(tokens.map(([id]) => [id, []])); // id -> positions
  tokens.forEach(([id], i) => places.get(id).push(i));
  let lit = [];

  return (position) => {
    for (const node of lit) node.classList.remove("lit", "same");
    lit = [];
    readout.textContent = position === null ? HINT : describe(tokens[position], position, count);
    if (position === null) return;
    for (const i of places.get(tokens[position][0])) {
      for (const nodes of blocks) {
        nodes[i].classList.add(i === position ? "lit" : "same");
        lit.push(nodes[i]);
      }
    }
  };
}

// Pointer, focus and arrow keys of one view, by delegation from its section.
function link(section, tokens, count, readout) {
  const texts = [...section.querySelectorAll(".text .token")];
  const ids = [...section.querySelectorAll(".ids .token")];
  const light = lighter(tokens, count, [texts, ids], readout);
  const tokenOf = (node) => node?.closest?.(".token");
  const blockOf = (node) => (texts[node.dataset.position] === node ? texts : ids);

  function show(node) {
    const position = Number(node.dataset.position);
    light(position);
    reveal(blockOf(node) === texts ? ids[position] : texts[position]);
  }

  function showFocused() {
    const focused = section.contains(document.activeElement) && tokenOf(document.activeElement);
    if (focused) show(focused);
    else light(null);
  }

  section.addEventListener("mouseover", (event) => {
    const node = tokenOf(event.target);
    if (node) show(node);
  });
  section.addEventListener("mouseleave", showFocused);
  section.addEventListener("focusin", (event) => {
    const node = tokenOf(event.target);
    if (!node) return;
    node.parentElement.querySelector("[tabindex='0']").tabIndex = -1;
    node.tabIndex = 0;
    show(node);
  });
  section.addEventListener("focusout", () => light(null));
  section.addEventListener("keydown", (event) => {
    const node = tokenOf(event.target);
    if (!node || event.ctrlKey || event.metaKey || event.altKey) return;
    const nodes = blockOf(node);
    const next = target(event.key, nodes, Number(node.dataset.position));
    if (next === null) return;
    event.preventDefault();
    nodes[next].focus();
  });
  light(null);
}

function viewNode(view) {
  const tokens = JSON.parse(view.tokens);
  const section = make("section", view.current ? "view current" : "view");
  section.setAttribute("aria-label", view.title);
  section.dataset.ids = tokens.slice(0, 200).map(([id]) => id).join(",");
  section.dataset.count = view.count;

  const readout = make("p", "readout");
  readout.setAttribute("role", "status");
  const foot = make("footer", "foot");
  foot.appendChild(readout);
  if (tokens.length < view.count) {
    const line = `The first ${grouped(tokens.length)} of ${grouped(view.count)} tokens are shown.`;
    foot.appendChild(make("p", "more", line));
  }
  section.append(header(view), textBlock(view.title, tokens), idBlock(view.title, tokens), foot);
  link(section, tokens, view.count, readout);
  return section;
}

function draw() {
  const views = props.value?.views ?? [];
  const fragment = document.createDocumentFragment();
  for (const view of views) fragment.appendChild(viewNode(view));
  viewList.replaceChildren(fragment);
  emptyLine.hidden = views.length > 0;
  element.dataset.views = views.length;
  element.dataset.seq = props.value?.seq ?? "";
}

watch("value", draw);
draw();
