// Shared by every component; stands before its own script.

// Events of the page, by which its parts tell each other what a visitor looks at.
const RUN_SHOWN = "playground-run"; // {visitor, run, shipped, step, state}: of the loss chart, whenever it has heard of its run
const STEP_SHOWN = "playground-step"; // {run, step}: of a head's life; null is the newest step
const RUNS_SOUGHT = "playground-runs"; // of the loss chart: show all runs side by side
const SECTION_SHOWN = "playground-section"; // of the course: another section is shown
const SECTION_SOUGHT = "playground-go-on"; // show the next one
const QUESTION_ANSWERED = "playground-answered"; // {section}: that of one
const HEAD_CHOSEN = "playground-head"; // {layer, head}: look at this one

// What the address of the page asks for, so that a link shows what its sender saw; "" for what it does not name.
const asked = (name) => new URLSearchParams(location.search).get(name) ?? "";

// Whether the address asks for this in its `show`: tabs, or how they are shown (see for_class.py).
const isShown = (name) => asked("show").toLowerCase().split(",").includes(name);

// A token's text as one can see it: spaces, line ends and characters without a shape get a sign.
function visible(text) {
  return text
    .replace(/ /g, "·")
    .replace(/\n/g, "↵")
    .replace(/\t/g, "⇥")
    .replace(/\r/g, "␍")
    .replace(/^\u200d|\u200d$/g, "‹200d›") // inside a token it joins two emoji into one
    .replace(/[\u0000-\u001f\u007f-\u009f\u00ad\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
      (c) => "‹" + c.codePointAt(0).toString(16) + "›");
}

// A new node; the text can be anybody's, it is never markup.
function make(tag, className = "", text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

// The colour of a CSS variable as [red, green, blue], each 0..255.
function rgb(variable) {
  const probe = document.createElement("i");
  probe.style.color = `var(${variable})`;
  element.appendChild(probe);
  const parts = getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
  probe.remove();
  return parts;
}

// Calls `redraw` when the page turns dark or light.
function onTheme(redraw) {
  new MutationObserver(redraw).observe(document.body, { attributes: true, attributeFilter: ["class"] });
}

// A typed array from base64, as the server sends arrays.
function unpack(base64, ArrayType) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i); // ten times as fast as Uint8Array.from
  return new ArrayType(bytes.buffer);
}
