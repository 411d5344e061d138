// The page's address says what is looked at, so that a link shows it to others, and how. Stands before all other scripts.

const LONGEST_LINK = 1000; // characters of a text: servers refuse addresses that are much longer
const addressNext = {};
let addressTimer = 0;

// Writes into the address what is looked at now; null takes it away. Not at once: browsers refuse many changes in a row.
function putIntoAddress(shown) {
  Object.assign(addressNext, shown);
  clearTimeout(addressTimer);
  addressTimer = setTimeout(() => writeAddress(), 300);
}

// The same for what the browser's Back undoes: a page of its own in its history.
function goInAddress(shown) {
  writeAddress();
  Object.assign(addressNext, shown);
  writeAddress("pushState");
}

function writeAddress(way = "replaceState") {
  const url = new URL(location.href);
  for (const [name, value] of Object.entries(addressNext)) {
    if (value === null || String(value).length > LONGEST_LINK) url.searchParams.delete(name);
    else url.searchParams.set(name, value);
    delete addressNext[name];
  }
  history[way](history.state, "", url);
}

// ---- For a class: see for_class.py ----

const addressShow = (new URLSearchParams(location.search).get("show") ?? "").toLowerCase().split(",");
document.documentElement.dataset.show = addressShow.join(" "); // for the page's style

// Hides all tabs but those that the address names. Gradio measures which of them fit on a copy of the bar.
function hideOtherTabs() {
  if (!TAB_NAMES.some((name) => addressShow.includes(name))) return;
  const selectors = TAB_NAMES.flatMap((name, i) => (addressShow.includes(name) ? [] : [
    `[role="tab"][data-tab-id="${name}"]`, `.tab-container.visually-hidden button:nth-of-type(${i + 1})`,
  ]));
  const style = document.createElement("style");
  style.textContent = `${selectors.join(", ")} { display: none !important; }`;
  document.head.append(style);
}
hideOtherTabs();

// ---- Beginning ----

// A link's model is taken into use when the link is followed, not each time that the page is reloaded.
if (performance.getEntriesByType("navigation")[0]?.type !== "navigate") {
  addressNext.model = null;
  writeAddress();
}
