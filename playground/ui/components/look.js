// Shared by what looks inside a model for the page; stands before each component's own script.

const NO_ANSWER = "The server did not answer; press Show attention again.";

// What a server function returned; a failure of any kind becomes {error: sentence} as well.
async function ask(call) {
  try {
    return (await call()) ?? { error: NO_ANSWER };
  } catch {
    return { error: NO_ANSWER };
  }
}

// Makes `load` of a component that is one <details>, closed at first: while it is open, it shows what the server says
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
  details.addEventListener("toggle", load);
  return load;
}

// The prompt's tokens as the options of a select.
function offerTokens(select, tokens, chosen) {
  select.replaceChildren(...tokens.map((text, i) => new Option(`${i + 1} ${visible(text)}`, i)));
  select.value = chosen;
}
