"""The live view of one training run: figures, loss curves and what the model writes."""

from collections.abc import Callable

import gradio as gr

from playground.ui.components.base import component

TILES = {
    "step": "Step",
    "train": "Training loss",
    "val": "Validation loss",
    "perplexity": "Perplexity",
    "speed": "Tokens per second",
    "norm": "Gradient norm",
    "rate": "Learning rate",
    "time": "Time left",
}

TILE = '<div><dt class="{key}-label">{label}</dt><dd class="{key}">–</dd></div>'
TEMPLATE = f"""
<p class="empty">No run yet. Choose a text and press Start training.</p>
<section class="run" aria-label="Training run" hidden>
  <header>
    <strong class="name"></strong>
    <span class="status" role="status"><span class="state"></span><span class="message"></span></span>
    <button type="button" class="compare" hidden>Compare your runs</button>
  </header>
  <div class="progress" role="progressbar" aria-label="Training progress" aria-valuemin="0"><div></div></div>
  <dl class="tiles">
    {"".join(TILE.format(key=key, label=label) for key, label in TILES.items())}
  </dl>
  <p class="in-use" hidden></p>
  <p class="final" hidden></p>
  <p class="unknown" hidden></p>
  <div class="toolbar">
    <div class="legend">
      <span class="key train-key">training</span>
      <span class="key val-key">
        <span>validation<span class="new" hidden>, new text: <span class="text"></span></span></span>
      </span>
      <span class="key first-key" hidden><span>validation, earlier text: <span class="first-text"></span></span></span>
      <span class="others" role="group" aria-label="Earlier runs"></span>
    </div>
    <div class="axes">
      <button type="button" class="reset">Reset zoom</button>
      <button type="button" class="log-x" aria-pressed="false" title="Logarithmic step axis">log x</button>
      <button type="button" class="log-y" aria-pressed="false" title="Logarithmic loss axis">log y</button>
      <span class="figure-buttons"></span>
    </div>
  </div>
  <canvas tabindex="0" role="img"
    aria-label="Loss by step. The arrow keys move the crosshair, Escape resets the zoom."></canvas>
  <p class="readout" aria-live="polite"></p>
  <p class="forgetting" hidden></p>
  <div class="samples">
    <section class="sample before" aria-label="What the model wrote before it was fine-tuned" hidden>
      <div class="sample-head"><strong>What it wrote before</strong></div>
      <div class="before-text" tabindex="0" dir="auto"></div>
    </section>
    <section class="sample" aria-label="What the model writes now">
      <div class="sample-head">
        <strong>What the model writes now</strong>
        <span class="sample-step"></span>
        <input type="range" min="0" value="0" step="1" aria-label="Samples of the evaluations so far" hidden>
      </div>
      <div class="sample-text" tabindex="0" dir="auto"></div>
    </section>
  </div>
  <div class="points" hidden>
    <label><span>Go back to</span><select></select></label>
    <button type="button" class="go-back">Use the model of this step</button>
  </div>
  <p class="points-note" hidden></p>
</section>
"""


def loss_chart(poll: Callable[[list], dict], figure: Callable[[list], dict], **kwargs) -> gr.HTML:
    """The chart of one run, which asks the server by itself for what is new.

    The value is None before the first run, then
    `{"visitor": str, "run": str, "name": str, "shipped": str | None, "in_use": int | None,
    "others": [{"run": str, "name": str}, …], "n_runs": int, "seq": int}`; `shipped` is the model that is shown if every
    visitor has it, so that a link can name it; `in_use` is the step of the run to which one went back, or None;
    `others` are earlier runs to compare with, `n_runs` is how many runs the visitor has, and a new `seq` makes the page
    ask again after a run came to an end.

    `poll` must be a plain function of this very name, since the page calls `server.poll`. It gets
    `[visitor, run, cursor]` (from the browser, so not to be trusted) every 500 ms while the page is visible
    and the run is active, and once with cursor 0 for each of the others. It returns plain JSON, NaN as None:

    - `state`: "starting", "running", "pausing", "paused", "stopping", "finished", "stopped", "failed" or "gone"; with
      "gone" nothing else is needed
    - `server`: which server answers; when it is another than before, the page reloads itself
    - `message`: a sentence for the visitor, or ""
    - `name`, `step`, `max_iters`
    - `cursor`, `train`: where its points begin, and `[step, loss, learning_rate, grad_norm, smoothed_loss]` of each
      from there on, or of some of them if they are many; the next cursor to ask for is `step`. A `cursor` below the one
      asked for says that the server holds fewer, and the page drops what it has beyond
    - `val`: the same for the evaluations, `[step, loss, sample, loss on the first text or None]`; with cursor 0 also
      that before the first step of a fine-tuning
    - `text`: the name of the text that is learned, or None; `first_text`: that of the one that was learned before, or
      None if there is none or it is not at hand
    - `points`: what one can go back to, `[step, loss, loss on the first text or None]` of each
    - `points_note`: why there are none where one might look for some, or ""
    - `tokens_per_second`, `seconds` so far, `seconds_left` or None
    - `references`: `{"uniform": …, "unigram": …, "bigram": …}` or None
    - `final_loss` over the whole validation part, or None, and `val_tokens`, how many tokens that are; `n_unknown`, how
      many of them the tokenizer does not know; `first_final_loss`, the same of the first text

    `figure` gets `[visitor, run, kind]` and returns the curves as a PNG or SVG file, or `{"error": sentence}`.

    All losses are in nats per token. Events: `state` with `{run, state}` when the state changes, the first reply
    included; `evaluated` with `{run, step}` when a reply brought new evaluations; `back` with `{run, step}` when the
    visitor wants what the run had become after this step, one of its points. Events that output to the chart
    want `show_progress="hidden"`, or Gradio fades it out for a moment.
    """
    return component("loss_chart", TEMPLATE, "figure", "plot", server_functions=[poll, figure], **kwargs)
