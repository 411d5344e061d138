// How well a model predicts a text: see report.py for the value.

const SIZE = 220; // of the reliability plot, in its own units; the page scales it
const FEW = 100; // tokens; from fewer nothing is concluded
const EDGE = { left: 34, bottom: 30, right: 14, top: 8 };

const find = (selector) => element.querySelector(selector);
const count = (n) => n.toLocaleString("en");

function show() {
  const { value } = props;
  find(".rp-empty").hidden = Boolean(value);
  find(".rp-shown").hidden = !value;
  if (!value) return;
  find(".rp-title").textContent = value.share < 1 ? `${value.title}: ${percent(value.share)} of it so far` : value.title;
  find(".rp-progress").value = value.share;
  find(".rp-progress").hidden = value.share === 1;
  find(".rp-figures").replaceChildren(...figures(value).map(pair));
  showOthers(value);
  showCalibration(value);
  find(".figure-buttons").hidden = !value.id;
  Object.assign(element.dataset, { share: value.share, others: value.others.length, id: value.id ?? "" });
}

// ---- The figures ----

function figures(value) {
  const { loss, n_tokens } = value;
  const perplexity = value.perplexity === null ? "∞" : value.perplexity.toLocaleString("en", { maximumFractionDigits: 3 });
  return [
    ["loss", loss.toFixed(4), "nats a token", "The mean of −ln p of the tokens that stand there."],
    ["perplexity", perplexity, "perplexity", "e to the loss: as unsure as between so many equally likely tokens."],
    ["bits-per-char", value.bits_per_char.toFixed(4), "bits per character", "Compares models whatever their tokens are."],
    ["bits-per-byte", value.bits_per_byte.toFixed(4), "bits per byte", "Of the text in UTF-8."],
    ["top1", percent(value.accuracy), "foreseen", "How often the token was the model's likeliest."],
    ["top5", percent(value.top5_accuracy), "among its five likeliest", ""],
    ["tokens", count(n_tokens), n_tokens === 1 ? "token" : "tokens", `${count(value.n_chars)} characters, ${count(value.n_bytes)} bytes.`],
  ];
}

function pair([name, figure, unit, title]) {
  const node = make("div", "rp-figure");
  node.title = title;
  node.append(make("dt", "", unit), make("dd", `rp-${name}`, figure));
  return node;
}

// ---- Beside others ----

function showOthers(value) {
  const own = ["This model", value.bits_per_char, `${count(value.n_tokens)} tokens`];
  const rows = [own, ...value.others].sort((a, b) => a[1] - b[1]);
  const longest = rows.at(-1)[1];
  find(".rp-table tbody").replaceChildren(...rows.map((row) => line(row, longest, row === own)));
  const unknown = value.n_unknown
    ? `${count(value.n_unknown)} of these tokens are unknown to the model: it has to foresee no more than that, so its bits are too few to compare. `
    : "";
  find(".rp-note").textContent = unknown + value.note;
}

function line([name, bits, measured], longest, isOwn) {
  const title = make("th", "", name);
  title.scope = "row";
  const bar = make("td", "look-bar", bits.toFixed(3));
  bar.style.setProperty("--share", longest ? bits / longest : 0);
  const node = make("tr", isOwn ? "rp-own" : "");
  node.dataset.name = name;
  node.append(title, bar, make("td", "rp-measured", measured));
  return node;
}

// ---- Calibration ----

function showCalibration({ bins, calibration_error, n_tokens }) {
  find(".rp-plot").replaceChildren(reliability(bins));
  const [sure, right] = ["confidence", "accuracy"].map((what) => bins.reduce((sum, bin) => sum + bin.count * bin[what], 0) / n_tokens);
  const how = Math.abs(sure - right) < 0.01 ? "neither too sure nor too unsure" : sure > right ? "too sure" : "not sure enough";
  const verdict = n_tokens < FEW ? "too few tokens to judge that by" : `on the whole it is ${how}`;
  find(".rp-calibration").textContent =
    `It gives its likeliest token ${percent(sure)} on average, which comes ${percent(right)} of the time: ${verdict}. ` +
    `Calibration error ${percent(calibration_error)}, the mean distance from the dashed line. A wide bar has many tokens.`;
  find(".rp-bins tbody").replaceChildren(...bins.map(binLine));
}

function binLine({ count: n, confidence, accuracy }, i) {
  const shares = [confidence, accuracy].map((share) => make("td", "", share === null ? "–" : percent(share)));
  const title = make("th", "", `${10 * i} to ${10 * (i + 1)} %`);
  title.scope = "row";
  const node = make("tr");
  node.append(title, ...shares, make("td", "", count(n)));
  return node;
}

// One bar a bin: how high says how often its tokens came, how wide how many there are; on the diagonal all is well.
function reliability(bins) {
  const svg = draw("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, role: "img" });
  svg.ariaLabel = "Reliability: how often the likeliest token came, by its probability. The numbers are in the table below.";
  const width = SIZE - EDGE.left - EDGE.right;
  const x = (share) => EDGE.left + width * share;
  const y = (share) => SIZE - EDGE.bottom - (SIZE - EDGE.bottom - EDGE.top) * share;
  const most = Math.max(...bins.map((bin) => bin.count));
  svg.append(draw("rect", { class: "rp-frame", x: x(0), y: y(1), width, height: y(0) - y(1) }));
  for (const { count: n, confidence, accuracy } of bins) {
    if (!n) continue;
    const wide = (width / bins.length) * Math.max(0.15, Math.sqrt(n / most));
    const bar = draw("rect", { class: "rp-bin", x: x(confidence) - wide / 2, y: y(accuracy), width: wide, height: y(0) - y(accuracy) });
    bar.append(draw("title", {}, `${percent(confidence)} sure, right ${percent(accuracy)} of ${count(n)} times`));
    svg.append(bar);
  }
  svg.append(draw("line", { class: "rp-ideal", x1: x(0), y1: y(0), x2: x(1), y2: y(1) }));
  for (const share of [0, 0.5, 1]) {
    svg.append(draw("text", { x: x(share), y: SIZE - EDGE.bottom + 13, "text-anchor": "middle" }, `${100 * share}`));
    svg.append(draw("text", { x: EDGE.left - 5, y: y(share) + 4, "text-anchor": "end" }, `${100 * share}`));
  }
  svg.append(draw("text", { x: x(0.5), y: SIZE - 3, "text-anchor": "middle" }, "sure of its likeliest token, %"));
  svg.append(draw("text", { x: 0, y: 0, transform: `translate(10 ${y(0.5)}) rotate(-90)`, "text-anchor": "middle" }, "it came, %"));
  return svg;
}

function draw(tag, attributes, text = "") {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  return node;
}

offerFigure(find(".figure-buttons"), (kind) => server.figure([props.value.id, kind]));
watch("value", show);
show();
