// The question of a section of the course: see question.py for the value and what the server sends.

const find = (selector) => element.querySelector(selector);
const questions = [...element.querySelectorAll(".qu-question")];
let requests = 0;

function clear() {
  requests += 1;
  find(".look-note").hidden = find(".qu-answer").hidden = true;
}

async function answerBy(name) {
  clear();
  const [request, section] = [requests, element.closest(".course").dataset.section];
  const answer = await ask(() => server.by_a_look([props.value.id, name]));
  if (request !== requests) return;
  find(".look-note").textContent = answer.error ?? "";
  find(".look-note").hidden = !answer.error;
  find(".qu-answer").hidden = Boolean(answer.error);
  if (answer.error) return;
  find(".qu-columns").replaceChildren(...answer.columns.map((column) => table(column, answer.measure)));
  find(".qu-sentence").textContent = answer.sentence;
  document.dispatchEvent(new CustomEvent(QUESTION_ANSWERED, { detail: { section } }));
}

// So that two rare tokens do not look equally likely.
function chance(p) {
  return p < 0.001 ? `${Number((100 * p).toPrecision(2))} %` : percent(p);
}

function table({ title, rows }, measure) {
  const node = make("table");
  const head = make("tr");
  head.append(...[title, measure].map((text) => Object.assign(make("th", "", text), { scope: "col" })));
  const largest = Math.max(...rows.map(([, number]) => Math.abs(number)));
  const body = rows.map(([text, number]) => {
    const line = make("tr");
    const name = make("td");
    name.append(make("bdi", "", visible(text)));
    const value = make("td", "look-bar", measure === "probability" ? chance(number) : number.toFixed(3));
    value.style.setProperty("--share", Math.max(0, number) / largest);
    line.append(name, value);
    return line;
  });
  const [thead, tbody] = [make("thead"), make("tbody")];
  thead.append(head);
  tbody.append(...body);
  node.append(thead, tbody);
  return node;
}

const buttons = [...element.querySelectorAll("[data-try]")];
for (const button of buttons) button.addEventListener("click", () => answerBy(button.dataset.try));

// Another sentence or model.
function renew() {
  clear();
  for (const button of buttons) button.disabled = !props.value;
}
whileSection((slug) => {
  clear();
  questions.forEach((question) => (question.hidden = question.dataset.slug !== slug));
});
watch("value", renew);
renew();
