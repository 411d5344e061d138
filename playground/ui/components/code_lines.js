// The code behind a section of the course: see code_lines.py for the value and what the server sends.

const OF_TRAINING = "More code: the loss of your whole sentence";

const find = (selector) => element.querySelector(selector);
let slug = ""; // of the section that is shown
let requests = 0;

async function load() {
  const request = ++requests;
  if (slug !== element.dataset.section) find(".cl-listings").replaceChildren(); // that was another section's
  find("h4").textContent = slug === "training" ? OF_TRAINING : "The code that made it";
  if (!slug || !props.value) return;
  const { id, layer, head } = props.value;
  const answer = await ask(() => server.lines([id, slug, layer, head]));
  if (request !== requests) return;
  if (answer.place) find("h4").append(` (${headName(answer.place)})`);
  find(".look-note").textContent = answer.error ?? "";
  find(".look-note").hidden = !answer.error;
  const figures = (answer.listings ?? []).map((listing) => {
    const figure = make("figure", "ls");
    showListing(figure, listing, true);
    return figure;
  });
  find(".cl-listings").replaceChildren(...figures);
  element.dataset.section = slug;
}

whileSection((shown) => {
  slug = shown;
  load();
});
watch("value", load);
