// The page's address says what is looked at, so that a link shows it to others. Stands before all other scripts.

const addressNext = {};
let addressTimer = 0;

// Writes into the address what is looked at now; null takes it away. Not at once: browsers refuse many changes in a row.
function putIntoAddress(shown) {
  Object.assign(addressNext, shown);
  clearTimeout(addressTimer);
  addressTimer = setTimeout(writeAddress, 300);
}

function writeAddress() {
  const url = new URL(location.href);
  for (const [name, value] of Object.entries(addressNext)) {
    if (value === null) url.searchParams.delete(name);
    else url.searchParams.set(name, value);
    delete addressNext[name];
  }
  history.replaceState(history.state, "", url);
}

// A link's model is taken into use when the link is followed, not each time that the page is reloaded.
if (performance.getEntriesByType("navigation")[0]?.type !== "navigate") {
  addressNext.model = null;
  writeAddress();
}
