// The way to the next section of the course: see go_on.py.

const button = element.querySelector("button");
const next = JSON.parse(button.dataset.next);

button.addEventListener("click", () => document.dispatchEvent(new CustomEvent(SECTION_SOUGHT)));
whileSection((slug) => {
  button.hidden = !next[slug];
  element.querySelector("p").hidden = !button.hidden;
  button.textContent = `Next: ${next[slug]}`;
});
