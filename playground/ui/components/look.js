// Shared by what looks inside a model for the page; stands before each component's own script.

const NO_ANSWER = "The server did not answer: try again.";
const CELL_HINT = "Point at a cell, or use the arrow keys, to read its numbers.";
const AVERAGE = -1; // in place of a head: the average of its layer's; in place of a layer, too: of all

function headName([layer, head]) {
  if (layer === AVERAGE) return "Average of all heads";
  if (head === AVERAGE) return `Layer ${layer + 1}, average of heads`;
  return `Layer ${layer + 1}, Head ${head + 1}`;
}

// What a server function returned; a failure of any kind becomes {error: sentence} as well.
async function ask(call) {
  try {
    return (await call()) ?? { error: NO_ANSWER };
  } catch {
    return { error: NO_ANSWER };
  }
}

// Makes `load` of a component that is one <details>: while it is open, it shows what the server says
// of the component's value, or a sentence where there is none. Only the last question's answer counts.
function loadWhileOpen(empty, question, show) {
  const [details, note, body] = ["details", ".look-note", ".look-body"].map((part) => element.querySelector(part));
  let requests = 0;
  async function load() {
    const request = ++requests;
    if (!details.open) return;
    if (body.hidden) note.textContent = "Reading the model …";
    const answer = props.value ? await ask(question) : { error: empty };
    if (request !== requests) return;
    note.textContent = answer.error ?? "";
    note.hidden = !answer.error;
    body.hidden = Boolean(answer.error);
    if (!answer.error) show(answer);
  }
  if (element.closest(".course-part")) whileSection((slug) => (details.open = isOf(slug)));
  let open = details.open;
  details.addEventListener("toggle", () => {
    if (details.open !== open) load(); // one that is open from the start tells so as well
    open = details.open;
  });
  return load;
}

// ---- Parts of the course ----

// Calls `show` with the name of the section that is shown, now and whenever it is another.
function whileSection(show) {
  function hear() {
    if (!element.isConnected) return document.removeEventListener(SECTION_SHOWN, hear);
    show(element.closest(".course").dataset.section ?? "");
  }
  document.addEventListener(SECTION_SHOWN, hear);
  hear();
}

// Whether this part belongs to a section.
const isOf = (slug) => element.closest(".course-part").classList.contains(`of-${slug}`);

// ---- Words and numbers ----

// Over how many tokens of what a loss was measured.
function overTokens({ n_tokens, name }) {
  return `over ${n_tokens.toLocaleString("en")} token${n_tokens === 1 ? "" : "s"} of ${name}`;
}

// The prompt's tokens as the options of a select.
function offerTokens(select, tokens, chosen) {
  select.replaceChildren(...tokens.map((text, i) => new Option(`${i + 1} ${visible(text)}`, i)));
  select.value = chosen;
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;

// A token in a running text: a space is seen as one, what else has no shape gets a sign.
const inText = (text) => text.split(" ").map(visible).join(" ");

// A number of a model's inside, whatever its size.
function number(x) {
  return (Math.abs(x) < 1e6 ? x.toFixed(3) : x.toPrecision(4)).replaceAll("-", "−");
}

// ---- Canvases ----

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }; // rows, columns

// Sized to the screen's own pixels and cleared; from here on one unit is one CSS pixel.
function prepareCanvas(canvas, width, height) {
  const ratio = window.devicePixelRatio;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  return context;
}

// Draws with (0, 0) at (x, y) and the text running upwards.
function turned(context, x, y, draw) {
  context.save();
  context.translate(x, y);
  context.rotate(-Math.PI / 2);
  draw();
  context.restore();
}

// The pointer and the arrow keys read the cells of maps that show the same tokens, query by row and key by column: a frame
// stands around one cell in each, and the readout has what `tell(query, key)` makes of it. `side()` is the number of
// tokens. Returns what to call when the maps have been painted anew.
function readCells(canvases, readout, side, tell) {
  let cursor = null; // the cell that the keyboard or a click is on
  let lit = null;
  const frames = canvases.map((canvas) => {
    const [stage, frame] = [make("div", "look-cells"), make("i", "look-cell")];
    canvas.replaceWith(stage);
    stage.append(canvas, frame);
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "application");
    return frame;
  });

  function light(cell) {
    lit = cell && Math.max(...cell) < side() ? cell : null;
    for (const frame of frames) {
      frame.hidden = !lit;
      if (lit) frame.style.cssText = `--query: ${lit[0]}; --key: ${lit[1]}; --side: ${side()}`;
    }
    readout.replaceChildren(...(lit ? tell(...lit) : [CELL_HINT]));
  }

  function cellUnder(event) {
    const box = event.currentTarget.getBoundingClientRect();
    const shares = [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width];
    return shares.map((share) => Math.min(Math.max(Math.floor(share * side()), 0), side() - 1));
  }

  const rest = () => light(canvases.includes(document.activeElement) ? cursor : null);
  for (const canvas of canvases) {
    canvas.addEventListener("pointermove", (event) => light(cellUnder(event)));
    canvas.addEventListener("pointerdown", (event) => light((cursor = cellUnder(event))));
    canvas.addEventListener("pointerleave", rest);
    canvas.addEventListener("focus", () => light((cursor ??= [side() - 1, side() - 1])));
    canvas.addEventListener("blur", rest);
    canvas.addEventListener("keydown", (event) => {
      const step = ARROWS[event.key];
      if (!step || !cursor) return;
      event.preventDefault();
      cursor = cursor.map((at, axis) => Math.min(Math.max(at + step[axis], 0), side() - 1));
      light(cursor);
    });
  }
  return () => light(lit);
}

// The sentence of a readout begins so.
function cellName(tokens, query, key) {
  const name = (i) => [`${i + 1} `, make("bdi", "", visible(tokens[i]))];
  return ["query ", ...name(query), " → key ", ...name(key)];
}

// ---- Weights as colours ----

// The step 0..255 of the colours for a weight 0..1.
function level(weight) {
  return Math.min(255, Math.round(Math.sqrt(weight) * 255));
}

// The colours of the 256 steps: [red, green, blue] of each, from the five that look.css names.
function heatLevels() {
  const stops = [0, 1, 2, 3, 4].map((i) => rgb(`--heat-${i}`));
  return Array.from({ length: 256 }, (_, step) => mix(stops, step / 255));
}

function mix(stops, position) {
  const at = position * (stops.length - 1);
  const i = Math.min(Math.floor(at), stops.length - 2);
  return stops[i].map((part, channel) => Math.round(part + (at - i) * (stops[i + 1][channel] - part)));
}

const pixelOf = ([r, g, b]) => (255 << 24) | (b << 16) | (g << 8) | r;

// One pixel a cell, in the colours of `pixels`. Of row q only the first `seen(q)` are painted: what the causal mask hides
// stays transparent, so that it never looks like a weight of zero.
function drawCells(canvas, side, pixels, levelOf, seen = (query) => query + 1) {
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  const image = context.createImageData(side, side);
  const cells = new Uint32Array(image.data.buffer);
  for (let query = 0; query < side; query++) {
    for (let key = 0; key < seen(query); key++) {
      const cell = query * side + key;
      cells[cell] = pixels[levelOf(cell)];
    }
  }
  context.putImageData(image, 0, 0);
}
