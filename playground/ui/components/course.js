// The words of the course: see course.py for the value.

const KEPT = "transformer-playground-course"; // in the browser: {seen: [slug], answered: [slug]}

const find = (selector) => element.querySelector(selector);
const sections = [...element.querySelectorAll(".co-section")];
const steps = [...element.querySelectorAll(".co-way li button")];
const slugs = sections.map((section) => section.dataset.slug);
let at = -1; // the section that is shown

// ---- What was seen ----

function kept() {
  try {
    const { seen, answered } = JSON.parse(localStorage.getItem(KEPT));
    return { seen: new Set(seen), answered: new Set(answered) };
  } catch {
    return { seen: new Set(), answered: new Set() }; // nothing yet, or the browser keeps nothing
  }
}

let progress = kept();

function keep(list, slug) {
  const [before, elsewhere] = [progress, kept()]; // another page may have gone on meanwhile
  progress = { seen: before.seen.union(elsewhere.seen), answered: before.answered.union(elsewhere.answered) };
  progress[list].add(slug);
  try {
    localStorage.setItem(KEPT, JSON.stringify({ seen: [...progress.seen], answered: [...progress.answered] }));
  } catch {
    // Then it lasts as long as the page.
  }
  tellProgress();
}

function tellProgress() {
  steps.forEach((step) => {
    const { slug } = step.dataset;
    step.dataset.progress = progress.answered.has(slug) ? "answered" : progress.seen.has(slug) ? "seen" : "";
    const words = { answered: ", its question answered", seen: ", seen" }[step.dataset.progress] ?? "";
    step.ariaLabel = step.title + words;
  });
  const count = (list) => slugs.filter((slug) => progress[list].has(slug)).length;
  find(".co-progress").textContent =
    `${count("seen")} of ${slugs.length} sections seen •, ${count("answered")} of their questions answered ✓`;
}

// ---- Forward and back ----

// Shows a section; one that the visitor went to comes into sight and into the address.
function turnTo(next, byVisitor = true) {
  at = Math.min(Math.max(next, 0), sections.length - 1);
  hideMeaning();
  sections.forEach((section, i) => (section.hidden = i !== at));
  steps.forEach((step, i) => (step.ariaCurrent = i === at ? "step" : null));
  find(".co-back").ariaDisabled = at === 0; // not `disabled`, which would take the focus away
  find(".co-next").ariaDisabled = at === sections.length - 1;
  keep("seen", slugs[at]);
  element.closest(".course").dataset.section = slugs[at];
  document.dispatchEvent(new CustomEvent(SECTION_SHOWN));
  if (!byVisitor) return;
  goInAddress({ section: slugs[at] });
  if (element.getBoundingClientRect().top < 0) element.scrollIntoView({ block: "start" });
}

function goOn() {
  if (!element.isConnected) return document.removeEventListener(SECTION_SOUGHT, goOn);
  turnTo(at + 1);
  sections[at].querySelector("h3").focus({ preventScroll: true });
}

// The browser's own Back and Forward.
function goBack() {
  if (!element.isConnected) return removeEventListener("popstate", goBack);
  turnTo(Math.max(0, slugs.indexOf(asked("section"))), false);
}

function takeAnswer({ detail }) {
  if (!element.isConnected) return document.removeEventListener(QUESTION_ANSWERED, takeAnswer);
  keep("answered", detail.section);
}

// ---- What a term means ----

const meaning = find(".co-meaning");

// Below the term, and inside the page also where the term stands at its edge.
function showMeaning(term) {
  meaning.textContent = term.dataset.meaning;
  meaning.hidden = false;
  const [own, all] = [term.getBoundingClientRect(), element.getBoundingClientRect()];
  const left = Math.min(own.left - all.left, all.width - meaning.offsetWidth);
  meaning.style.left = `${Math.max(0, left)}px`;
  meaning.style.top = `${own.bottom - all.top + 4}px`;
  term.setAttribute("aria-describedby", meaning.id);
}

function hideMeaning() {
  meaning.hidden = true;
}

for (const term of element.querySelectorAll(".co-term")) {
  for (const event of ["pointerenter", "focus", "click"]) term.addEventListener(event, () => showMeaning(term));
  for (const event of ["pointerleave", "blur"]) term.addEventListener(event, hideMeaning);
}
element.addEventListener("keydown", (event) => event.key === "Escape" && hideMeaning());

// ---- Beginning ----

steps.forEach((step, i) => step.addEventListener("click", () => turnTo(i)));
find(".co-back").addEventListener("click", () => turnTo(at - 1));
find(".co-next").addEventListener("click", () => turnTo(at + 1));
document.addEventListener(SECTION_SOUGHT, goOn);
addEventListener("popstate", goBack);
document.addEventListener(QUESTION_ANSWERED, takeAnswer);

function link() {
  const { shipped, sentence } = props.value ?? {};
  if (sentence !== undefined) putIntoAddress({ model: shipped, sentence });
}

watch("value", link);
link();
turnTo(Math.max(0, slugs.indexOf(asked("section"))), false);
