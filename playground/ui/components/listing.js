// Shared by what shows the code that ran: its lines, and what each of them made. Stands before each component's own script.

// Into a figure of the class `ls`. `fold` leaves the lines that matter, which are those that made something.
function showListing(figure, { file, first, lines: code }, fold = false) {
  const caption = make("figcaption", "", `${file}, line ${first}`);
  const shared = Math.min(...code.filter(([text]) => text).map(([text]) => text.search(/\S/)));
  const list = make("div", "ls-source");
  list.append(...code.map((line) => sourceLine(line, shared)));
  if (fold) foldLines([...list.children]);
  figure.replaceChildren(caption, list);
}

function sourceLine([text, made, times], shared) {
  const line = make("div", "ls-line");
  line.style.setProperty("--indent", `${Math.max(text.search(/\S/) - shared, 0)}ch`);
  const [written, comment] = text.trim().split(/(?=  # )/);
  line.append(make("code", written.startsWith('"""') ? "ls-comment" : "", written));
  if (comment) line.append(make("code", "ls-comment", comment));
  line.append(...made.map((value) => make("span", "ls-made", value)));
  if (times > 1 && made.length) line.append(make("small", "ls-times", ` the last of ${times} times`));
  return line;
}

// In place of each run of lines that made nothing stands a button that shows them. The signature stays, and what a loop
// is over.
function foldLines(lines) {
  const signature = lines.findIndex((line) => /:( |$)/.test(line.querySelector("code").textContent.slice(-1)));
  const isLoop = (line) => /^(for|while) /.test(line.textContent);
  const isPlain = (line) => line && lines.indexOf(line) > signature && !line.querySelector(".ls-made") && !isLoop(line);
  lines.forEach((line, i) => {
    if (i === 0 || !isPlain(line) || (i > 1 && isPlain(lines[i - 1]))) return;
    const end = lines.findIndex((other, j) => j > i && !isPlain(other));
    const run = lines.slice(i, end < 0 ? lines.length : end);
    run.forEach((plain) => (plain.hidden = true));
    const button = make("button", "ls-more look-plain", `⋯ ${run.length} more line${run.length === 1 ? "" : "s"}`);
    button.type = "button";
    button.addEventListener("click", () => {
      run.forEach((plain) => (plain.hidden = false));
      button.remove();
    });
    line.before(button);
  });
}
