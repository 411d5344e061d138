// The arithmetic of the next token's distribution, for more than one component; it touches no page.

// Ids by falling logit; of equal logits the lower id first.
function ranking(logits) {
  return Array.from(logits, (_, id) => id).sort((a, b) => logits[b] - logits[a] || a - b);
}

// The probability of every id, as generation.py computes it; `order` is ranking(logits), for those who have it already.
function distribution(logits, temperature, topK, topP, order = ranking(logits)) {
  const probs = new Float64Array(logits.length); // (V,)
  if (!(temperature > 0)) {
    probs[order[0]] = 1;
    return probs;
  }
  const highest = logits[order[0]];
  const kept = topK > 0 ? order.slice(0, topK) : order;
  let sum = 0;
  for (const id of kept) {
    probs[id] = Math.exp((logits[id] - highest) / temperature);
    sum += probs[id];
  }
  for (const id of kept) probs[id] /= sum;
  return topP < 1 ? nucleus(probs, kept, topP) : probs;
}

// Keeps the smallest set of most likely ids whose probabilities reach topP, and renormalises it.
function nucleus(probs, order, topP) {
  const cut = new Float64Array(probs.length);
  let sum = 0;
  for (const id of order) {
    cut[id] = probs[id];
    sum += probs[id];
    if (sum >= topP) break;
  }
  return cut.map((p) => p / sum);
}

function entropyBits(probs) {
  let bits = 0;
  for (const p of probs) if (p > 0) bits -= p * Math.log2(p);
  return Math.max(0, bits); // no -0
}

// Why the token of this rank cannot be drawn, or "".
function cutBy(rank, p, { temperature, top_k, top_p }) {
  if (!(temperature > 0)) return "";
  if (top_k > 0 && rank >= top_k) return "cut by top-k";
  return top_p < 1 && p === 0 ? "cut by top-p" : "";
}
