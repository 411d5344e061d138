// The causal mask: see mask_view.py for the value and what the server sends.

const EMPTY = "Press Show attention to look at a prompt.";

const find = (selector) => element.querySelector(selector);
const state = { shown: null, query: -1 };

const question = () => [props.value.visitor, props.value.id, props.value.layer, props.value.head];
const load = loadWhileOpen(EMPTY, () => server.mask(question()), show);

function show(answer) {
  for (const name of ["masked", "unmasked"]) answer[name] = unpack(answer[name], Float32Array);
  state.shown = answer;
  const T = answer.tokens.length;
  if (!(state.query >= 0 && state.query < T)) state.query = Math.floor((T - 1) / 2);
  for (const node of element.querySelectorAll(".mv-head")) node.textContent = headName([answer.layer, answer.head]);
  offerTokens(find(".mv-query"), answer.tokens, state.query);
  paint();
  tellRow();
  tellLoss(answer);
}

// What the three maps say of one cell.
function cellSentence(query, key) {
  const { tokens, masked, unmasked } = state.shown;
  const [before, after] = [masked, unmasked].map((weights) => weights[query * tokens.length + key].toFixed(3));
  const allowed = key > query ? " is hidden by the mask" : " may be seen";
  return [...cellName(tokens, query, key), `${allowed}. Weight ${before} with the mask, ${after} without.`];
}

const maps = [...element.querySelectorAll(".mv-maps canvas")];
const tellCell = readCells(maps, find(".mv-cell"), () => state.shown?.tokens.length ?? 0, cellSentence);

function paint() {
  const { tokens, masked, unmasked } = state.shown;
  const T = tokens.length;
  const pixels = Uint32Array.from(heatLevels(), pixelOf);
  drawCells(find(".mv-mask"), T, pixels, () => 255);
  drawCells(find(".mv-before"), T, pixels, (i) => level(masked[i]));
  drawCells(find(".mv-after"), T, pixels, (i) => level(unmasked[i]), () => T);
  const label = (map, words) => (find(map).ariaLabel = `${words} The arrow keys move the cell.`);
  label(".mv-mask", `The mask of ${T} tokens: query 1 sees key 1, query 2 keys 1 and 2, and so on.`);
  label(".mv-before", "The weights with the mask: nothing right of the diagonal.");
  label(".mv-after", `The weights without it: ${percent(futureShare())} of the attention goes to what comes later.`);
  tellCell();
}

// How much of all attention goes to keys after their query.
function futureShare() {
  const { tokens, unmasked } = state.shown;
  const T = tokens.length;
  return unmasked.reduce((sum, weight, i) => sum + (i % T > Math.floor(i / T) ? weight : 0), 0) / T;
}

// The row of one query: the three keys it attends to most, with the mask and without.
function tellRow() {
  const parts = [["With the mask", "masked"], ["Without it", "unmasked"]].flatMap(([words, name]) => [
    `${words} it attends most to `, ...mostSeen(state.shown[name]), ". ",
  ]);
  find(".mv-row").replaceChildren(...parts);
}

function mostSeen(weights) {
  const { tokens } = state.shown;
  const T = tokens.length;
  const row = weights.subarray(state.query * T, (state.query + 1) * T);
  const keys = tokens.map((_, key) => key).filter((key) => row[key] > 0);
  const most = keys.sort((a, b) => row[b] - row[a]).slice(0, 3);
  return most.flatMap((key, i) => [
    i ? ", " : "", `${key + 1} `, make("bdi", "", visible(tokens[key])), ` ${row[key].toFixed(3)}`,
  ]);
}

function tellLoss(answer) {
  const { before, after } = answer;
  const worse = after > before;
  const why = after === before ? "Nothing changed." : worse
    ? "Worse, although it sees the answer: it has never learned to look there, and what it now sees is unlike all it knows."
    : "Better, but only because it sees the answer: for writing on, when nothing comes later yet, that is worth nothing.";
  find(".mv-loss").replaceChildren(
    `Loss ${before.toFixed(3)} → `,
    make("b", worse ? "mv-worse" : "mv-better", after.toFixed(3)),
    ` nats a token without the mask in any layer, ${overTokens(answer)}. ${why} `,
    `Of this attention, ${percent(futureShare())} goes to what comes later.`,
  );
  Object.assign(element.dataset, { before, after });
}

find(".mv-query").addEventListener("change", (event) => {
  state.query = Number(event.target.value);
  tellRow();
});
onTheme(() => state.shown && paint());
offerFigure(find(".figure-buttons"), (kind) => server.figure([...question(), kind]));
watch("value", load);
load();
