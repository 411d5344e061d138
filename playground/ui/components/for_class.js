// A link for a class: see for_class.py.

const find = (selector) => element.querySelector(selector);
const [tabs, ways] = [...element.querySelectorAll("fieldset")].map((set) => [...set.querySelectorAll("input")]);
const link = find(".fc-link input");

function compose() {
  const chosen = (boxes) => boxes.filter((box) => box.checked).map((box) => box.value);
  const url = new URL(location.href);
  const shown = [...chosen(tabs), ...chosen(ways)];
  url.searchParams.delete("show");
  url.hash = "";
  if (chosen(tabs).length && !chosen(tabs).includes(asked("tab"))) url.searchParams.set("tab", chosen(tabs)[0]);
  // Commas as they are: people read such links.
  link.value = url.href + (shown.length ? `${url.search ? "&" : "?"}show=${shown.join(",")}` : "");
}

async function copy() {
  compose();
  link.select();
  const done = await navigator.clipboard.writeText(link.value).then(() => true, () => false);
  find(".look-readout").textContent = done ? "Copied." : "The browser did not copy it: press Ctrl+C, it is marked.";
}

// The address changes with what is looked at.
for (const event of ["change", "pointerenter", "focusin"]) element.addEventListener(event, compose);
find("details").addEventListener("toggle", compose);
find("button").addEventListener("click", copy);
for (const box of [...tabs, ...ways]) box.checked = isShown(box.value);
