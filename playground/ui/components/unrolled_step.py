"""One training step in six stages: the numbers of each, and beside them the lines of code that made them."""

from collections.abc import Callable, Sequence

import gradio as gr

from playground.checkpoint import Checkpoint
from playground.ui.components.base import component
from playground.ui.components.code_lines import pack_listing
from playground.unrolled import Unrolled

MOST_LOGITS = 8  # of a place that are sent, the largest
DEFAULT_TENSOR, DEFAULT_RATE = "lm_head.weight", 0.001

# What a stage is called, what it says, where its numbers go, and whose lines stand beside them.
STAGES = (
    (
        "Batch",
        "two lines become inputs and targets",
        "The tokenizer turns each line into ids. All but the last are the inputs; the target of each is the token that "
        'follows it, so both lines are learned from at every place at once. <span class="us-cut"></span>',
        """<div class="look-scroll" tabindex="0" role="region" aria-label="Inputs and targets">
          <table class="us-batch"><thead><tr><th scope="col"></th><th scope="col">line 1</th><th scope="col">target</th>
            <th scope="col">line 2</th><th scope="col">target</th></tr></thead><tbody></tbody></table>
        </div>""",
        ("make_batch",),
    ),
    (
        "Logits",
        "a score for every token that could come next",
        "At each place the model sees that token and those before it, and gives one number for each token of its "
        'vocabulary: <span class="us-shape"></span> logits. Here are the largest of one place.',
        """<label class="look-choose">After <select class="us-place"></select></label>
        <table class="us-logits"><thead><tr><th scope="col">next token</th><th scope="col">logit</th></tr></thead>
          <tbody></tbody></table>""",
        ("forward",),
    ),
    (
        "Loss",
        "cross-entropy, term by term",
        "A term is −log p of the token that does follow: the logarithm of the sum of e to all logits, minus the "
        "target’s own logit. It is 0 where the model was certain and right. The loss is the mean of all terms.",
        """<div class="look-scroll" tabindex="0" role="region" aria-label="The terms of the loss">
          <table class="us-terms"><thead><tr><th scope="col">target</th><th scope="col">log Σ eˡ</th>
            <th scope="col">its logit</th><th scope="col">−log p</th></tr></thead><tbody></tbody></table>
        </div>""",
        ("cross_entropy",),
    ),
    (
        "Gradient",
        "which way the loss changes, found twice",
        "backward() goes through the model from its end to its beginning and finds for every weight how fast the loss "
        "rises with it. Here is that of the weight you chose, and the same found by trying: the loss with the weight a "
        "little larger and a little smaller, in float64.",
        '<table class="us-gradient"><tbody></tbody></table><p class="us-agree"></p>',
        ("gradient_of", "finite_difference"),
    ),
    (
        "AdamW",
        "from the gradient to the update",
        "Adam remembers a running mean of the gradient, m, and of its square, v. Both begin at 0, and dividing by "
        "1 − β takes that pull off again. In the first step m_hat over the root of v_hat is little more than the "
        "gradient’s sign, so every weight that has a gradient moves by about the learning rate. "
        '<span class="us-optimizer"></span>',
        '<table class="us-adam"><tbody></tbody></table>',
        ("first_adamw_step",),
    ),
    (
        "After",
        "the loss before and after",
        "All weights move at once, each by its own update, and the same two lines are looked at again. The model in "
        'use stays as it is: this step was taken by a copy. <span class="us-dropout"></span>',
        '<table class="us-after"><tbody></tbody></table>',
        ("move", "loss_of"),
    ),
)


def _stage(title: str, words: str, numbers: str, functions: Sequence[str]) -> str:
    code = "".join(f'<figure class="ls" data-of="{name}"></figure>' for name in functions)
    return f"""<section class="us-stage" data-title="{title}" hidden>
      <div class="us-numbers"><p>{words}</p>{numbers}</div>
      <div class="us-listings">{code}</div>
    </section>"""


STEPS = "".join(f'<li><button type="button" class="look-button">{name}</button></li>' for name, *_ in STAGES)
TEMPLATE = f"""
<details class="look us" open>
  <summary>One training step, unrolled</summary>
  <form class="us-choices" aria-label="What the step is taken on">
    <label>Line 1 <input class="us-line" type="text" maxlength="1000" autocomplete="off" dir="auto"></label>
    <label>Line 2 <input class="us-line" type="text" maxlength="1000" autocomplete="off" dir="auto"></label>
    <label>A weight of <select class="us-tensor"></select></label>
    <label class="us-short">Row <input class="us-index" type="number" min="0" step="1"></label>
    <label class="us-short us-column">Column <input class="us-index" type="number" min="0" step="1"></label>
    <label class="us-short">Learning rate <input class="us-rate" type="number" min="0" step="any"></label>
  </form>
  <p class="look-note" role="status"></p>
  <div class="look-body" hidden>
    <nav class="us-way" aria-label="Stages of the step">
      <button type="button" class="us-back look-button">Back</button>
      <ol>{STEPS}</ol>
      <button type="button" class="us-next look-button">Next</button>
    </nav>
    <p class="us-title" role="status"></p>
    {"".join(_stage(*parts) for _, *parts in STAGES)}
  </div>
</details>
"""


def unrolled_step(step: Callable, **kwargs) -> gr.HTML:
    """The component. Its value is `{"visitor", "version"}`, whose model and the number of what is in use there, with
    `pack_choices(…)`; or None.

    It asks `step([visitor, version, {"lines", "tensor", "index", "rate"}])` for `pack_step(…)` or
    `{"error": sentence}`.
    """
    return component("unrolled_step", TEMPLATE, "look", "listing", server_functions=[step], **kwargs)


def pack_choices(checkpoint: Checkpoint, lines: Sequence[str]) -> dict:
    """What can be chosen, and what is chosen at first: the head's weight for the first target, its first number."""
    ids = checkpoint.tokenizer.encode(lines[0])
    return {
        "lines": list(lines),
        "tensors": [[name, list(weights.shape)] for name, weights in checkpoint.model.named_parameters()],
        "tensor": DEFAULT_TENSOR,
        "index": [ids[1] if len(ids) > 1 else 0, 0],
        "rate": DEFAULT_RATE,
        "optimizer": checkpoint.train_config.optimizer,
        "dropout": checkpoint.config.dropout,
    }


def pack_step(step: Unrolled, token_text: Callable[[int], str]) -> dict:
    """All numbers that the page shows: of the logits the largest of each place."""
    return {
        "shape": list(step.logits.shape),
        "n_cut": step.n_cut,
        "lines": [[_place(step, b, t, token_text) for t in range(len(row))] for b, row in enumerate(step.inputs)],
        "loss": step.terms.loss.item(),
        "weight": vars(step.weight),
        "gradient": step.gradient,
        "difference": step.difference._asdict(),
        "adam": {name: number.item() for name, number in step.adam._asdict().items()},
        "loss_after": step.loss_after,
        "n_weights": sum(weights.numel() for weights in step.model.parameters()),
        "listings": {name: pack_listing(listing) for name, listing in step.listings.items()},
    }


def _place(step: Unrolled, b: int, t: int, token_text: Callable[[int], str]) -> dict:
    logits, target = step.logits[b, t], int(step.targets[b, t])  # (V,)
    largest = logits.topk(min(MOST_LOGITS, len(logits))).indices.tolist()
    shown = largest if target in largest else [*largest, target]
    return {
        "input": [int(step.inputs[b, t]), token_text(int(step.inputs[b, t]))],
        "target": [target, token_text(target)],
        "log_sum_exp": step.terms.log_sum_exp[b, t].item(),
        "logit": step.terms.target_logits[b, t].item(),
        "loss": step.terms.losses[b, t].item(),
        "next": [[i, token_text(i), logits[i].item()] for i in shown],
    }
