// Shared by what has a figure to download, which the server draws; stands before each component's own script.

function hand(file) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([unpack(file.data, Uint8Array)]));
  link.download = file.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// Takes the file that a server function returns, and shows in `fault` why there is none.
async function takeFile(button, fault, call) {
  button.disabled = true;
  fault.textContent = "";
  const file = await Promise.resolve().then(call).catch(() => null);
  button.disabled = false;
  if (file && file.data) hand(file);
  else fault.textContent = (file && file.error) || "The server did not answer: try again.";
}

// A small button for each kind of file in which the page can have `what`, as `fetch(kind)` asks the server for it.
function offerFiles(place, what, kinds, fetch) {
  const fault = make("span", "figure-fault");
  fault.setAttribute("role", "status");
  const buttons = kinds.map((kind) => {
    const button = make("button", "figure-button", kind.toUpperCase());
    button.type = "button";
    button.ariaLabel = button.title = `Download this ${what} as ${kind.toUpperCase()}`;
    button.addEventListener("click", () => takeFile(button, fault, () => fetch(kind)));
    return button;
  });
  place.append(...buttons, fault);
}

function offerFigure(place, draw) {
  offerFiles(place, "figure", ["png", "svg"], draw);
  if (isShown("captions")) keepCaption(place, draw);
}

const CAPTION_AFTER = 1000; // ms since the picture last changed: the server draws the whole figure for it

// What a pointer reads, and the caption itself, change no figure.
function isPassing(node) {
  const around = node.nodeType === Node.ELEMENT_NODE ? node : node.parentElement;
  return around?.closest(".figure-caption, [role=status], .look-cells, .look-light");
}

// Below the picture, what stands in the figure's file.
function keepCaption(place, draw) {
  const caption = make("p", "figure-caption");
  if (place.tagName === "SPAN") place.parentElement.after(caption); // its row has other controls
  else place.before(caption);
  let timer = 0;
  async function renew() {
    if (!caption.parentElement.offsetParent) return; // folded, or on another tab
    const answer = await Promise.resolve().then(() => draw("caption")).catch(() => null);
    const text = answer?.caption ?? "";
    if (caption.textContent !== text) caption.textContent = text;
  }
  new MutationObserver((changes) => {
    if (changes.every(({ target }) => isPassing(target))) return;
    clearTimeout(timer);
    timer = setTimeout(renew, CAPTION_AFTER);
  }).observe(element, { subtree: true, childList: true, attributes: true, characterData: true });
}
