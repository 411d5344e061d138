// Shared by texts as a tokenizer cuts them, a token being [id, text, kind]; stands before each component's own script.

const HUES = 8;

const tokenClass = (id, kind) => `token hue${id % HUES} ${kind}`;

// The text of a token in the text block: a line still ends where it ends; the space between two bytes is no space.
// The last line end stands behind the token (see fillText), or the token's colour would begin the next line.
function tokenText([, text, kind]) {
  if (kind === "bytes") return text;
  return text.split("\n").map(visible).join("↵\n").replace(/\n$/, "");
}

// Whether a line may end before token i: at white space and bytes, so that words of several tokens stay whole.
function mayBreak(tokens, i) {
  const [, text, kind] = tokens[i];
  return kind === "bytes" || /^\s/.test(text) || (i > 0 && /\s$/.test(tokens[i - 1][1]));
}

// Fills a block with a text; `node(token, i, text)` makes that of a token, a <bdi>, so that right-to-left text moves no neighbour.
function fillText(block, tokens, node) {
  const parts = tokens.flatMap((token, i) => [
    ...(mayBreak(tokens, i) ? [make("wbr")] : []),
    node(token, i, tokenText(token)),
    ...(token[1].endsWith("\n") ? ["\n"] : []),
  ]);
  block.replaceChildren(...parts);
}
