"""One step unrolled, against torch's own cross-entropy and AdamW, plain Python, and the step of a training."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from handmade import checkpoint_with_logits, random_checkpoint
from test_model import COMBINATIONS, name_of

from playground.checkpoint import SMALL, Checkpoint
from playground.config import PRESETS, TrainConfig
from playground.errors import BadInput
from playground.model import GPT
from playground.optimizers import make_optimizers
from playground.tokenizer import BPETokenizer, CharTokenizer, WordTokenizer
from playground.unrolled import Unrolled, longest_line, unroll

LETTERS = CharTokenizer.train("abcdefghij")  # and the unknown one: V is 11
LINES = ("abcabc", "fagdeh")
DECAY = TrainConfig(optimizer="adamw", weight_decay=0.1)


def made(**shape) -> Checkpoint:
    return replace(random_checkpoint(LETTERS, **shape), train_config=DECAY)


def shape_of(name: str) -> dict:
    """The architecture of a preset, for a small model."""
    model = PRESETS[name].model
    return {field: getattr(model, field) for field in ("bias", "position", "norm", "activation", "qk_norm")}


def at_random(checkpoint: Checkpoint, tensor: str, seed: int) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(int(torch.randint(n, (), generator=generator)) for n in checkpoint.weights[tensor].shape)


def steepest(checkpoint: Checkpoint, tensor: str) -> tuple[int, ...]:
    """Where in a tensor the gradient is largest, by torch's own cross-entropy."""
    gradient = step_of_torch(checkpoint, 0.01)[2][tensor].abs()
    return tuple(int(i) for i in torch.unravel_index(gradient.argmax(), gradient.shape))


def exact(checkpoint: Checkpoint) -> Checkpoint:
    """In float64: where a gradient is 0 but for what is rounded, Adam makes a step of any length of that."""
    return replace(checkpoint, weights={name: weight.double() for name, weight in checkpoint.weights.items()})


def step_of_torch(checkpoint: Checkpoint, learning_rate: float) -> tuple[GPT, float, dict, float]:
    """The same step by torch.optim.AdamW and F.cross_entropy: the model, the loss, all gradients, the loss after."""
    model = GPT(checkpoint.config).double()
    model.load_state_dict(checkpoint.weights)
    ids = torch.tensor([checkpoint.tokenizer.encode(line) for line in LINES])
    x, y = ids[:, :-1], ids[:, 1:].reshape(-1)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=learning_rate, betas=(0.9, 0.99))
    loss = F.cross_entropy(model(x).flatten(0, 1), y)
    loss.backward()
    optimizer.step()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return model, loss.item(), gradients, F.cross_entropy(model(x).flatten(0, 1), y).item()


@pytest.mark.parametrize("config", COMBINATIONS[::7], ids=name_of)
def test_the_step_is_that_of_torch(config):
    shape = {k: v for k, v in vars(config).items() if k not in ("vocab_size", "dropout")}
    checkpoint = exact(made(**shape))
    tensor = "h.0.attn.c_attn.weight"
    index = steepest(checkpoint, tensor)
    step = unroll(checkpoint, LINES, tensor, index, 0.01)
    model, loss, gradients, loss_after = step_of_torch(checkpoint, 0.01)
    assert step.terms.loss.item() == pytest.approx(loss, rel=1e-9)
    assert step.loss_after == pytest.approx(loss_after, rel=1e-6)
    assert step.gradient == pytest.approx(gradients[tensor][index].item(), rel=1e-9)
    assert step.difference.slope == pytest.approx(step.gradient, rel=1e-4)
    for (name, ours), theirs in zip(step.model.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize("name", ["classic", "modern", "tiny"])
def test_trying_agrees_with_the_gradient_of_weights_everywhere(name):
    checkpoint = made(**shape_of(name))
    for tensor in checkpoint.weights:
        step = unroll(checkpoint, LINES, tensor, steepest(checkpoint, tensor), 0.01)
        # A shift of all keys moves no attention: that gradient is nothing, and so is what is found by trying.
        assert step.difference.slope == pytest.approx(step.gradient, rel=0.01, abs=1e-7), tensor
        assert (step.difference.above - step.difference.below) / 2 / step.difference.h == step.difference.slope
        step = unroll(checkpoint, LINES, tensor, at_random(checkpoint, tensor, seed=1), 0.01)
        assert step.difference.slope == pytest.approx(step.gradient, rel=0.01, abs=1e-7), tensor


def test_the_cross_entropy_term_by_term_in_plain_python():
    step = unroll(made(), LINES, "lm_head.weight", (0, 0), 0.01)
    losses = []
    for b, line in enumerate(LINES):
        ids = LETTERS.encode(line)
        for t, target in enumerate(ids[1:]):
            logits = step.logits[b, t].tolist()
            total = sum(math.exp(x) for x in logits)
            losses.append(-math.log(math.exp(logits[target]) / total))
            assert step.inputs[b, t] == ids[t] and step.targets[b, t] == target
            assert step.terms.target_logits[b, t].item() == logits[target]
            assert step.terms.log_sum_exp[b, t].item() == pytest.approx(math.log(total), rel=1e-5)
            assert step.terms.losses[b, t].item() == pytest.approx(losses[-1], rel=1e-4, abs=1e-6)
    assert step.terms.loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_logits_that_e_to_the_power_of_would_overflow():
    checkpoint = checkpoint_with_logits([200.0, 100.0, 0.0, -50.0], CharTokenizer.train("abc"))
    step = unroll(checkpoint, ("ab", "aa"), "ln_f.bias", (0,), 0.01)
    assert step.terms.losses.flatten().tolist() == [100.0, 0.0]


def test_adam_by_hand_and_the_chosen_weight_moves_as_all_do():
    checkpoint = made()
    index = steepest(checkpoint, "wte.weight")
    step = unroll(checkpoint, LINES, "wte.weight", index, 0.01)
    g, w = step.gradient, step.weight
    m, v, m_hat, v_hat, update = (x.item() for x in step.adam)
    assert [m, v, m_hat, v_hat] == pytest.approx([0.1 * g, 0.01 * g * g, g, g * g], rel=1e-5)
    assert w.before == checkpoint.weights["wte.weight"][index].item()
    assert update == pytest.approx(-0.01 * (g / (abs(g) + 1e-8) + 0.1 * w.before), rel=1e-5)
    assert w.after == step.model.wte.weight[index].item() == pytest.approx(w.before + update, rel=1e-6)
    assert w.weight_decay == 0.1
    assert unroll(checkpoint, LINES, "ln_f.weight", (3,), 0.01).weight.weight_decay == 0.0


def test_it_is_the_first_step_of_a_training_with_adamw():
    checkpoint = exact(made(**shape_of("classic")))
    step = unroll(checkpoint, LINES, "lm_head.weight", (1, 2), 0.01)
    model = GPT(checkpoint.config).double()
    model.load_state_dict(checkpoint.weights)
    (optimizer,) = make_optimizers(model, DECAY)
    model.loss(step.inputs, step.targets).backward()
    for group in optimizer.param_groups:
        group["lr"] = 0.01 * group["scale"]
    optimizer.step()
    for ours, theirs in zip(step.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_the_longer_line_is_cut_to_the_shorter():
    step = unroll(made(), ("abcdefgh", "cab"), "lm_head.weight", (0, 0), 0.01)
    assert step.inputs.tolist() == [LETTERS.encode("ab"), LETTERS.encode("ca")]
    assert step.targets.tolist() == [LETTERS.encode("bc"), LETTERS.encode("ab")]
    assert step.n_cut == 5


def test_the_checkpoint_stays_as_it_is(tiny_checkpoint):
    before = {name: weight.clone() for name, weight in tiny_checkpoint.weights.items()}
    step = unroll(tiny_checkpoint, ("the goose", "the cat"), "wte.weight", (1, 1), 0.1)
    for name, weight in tiny_checkpoint.weights.items():
        assert torch.equal(weight, before[name])
    assert all(not p.requires_grad and p.grad is None for p in tiny_checkpoint.model.parameters())
    assert not torch.equal(step.model.wte.weight, before["wte.weight"])


def test_a_model_that_was_first_used_for_inference_can_learn():
    checkpoint = made(position="rotary")
    with torch.inference_mode():
        checkpoint.model(torch.tensor([[0]]))
    steps = [unroll(c, LINES, "lm_head.weight", (0, 0), 0.01) for c in (checkpoint, made(position="rotary"))]
    assert steps[0].gradient == steps[1].gradient != 0


def test_a_model_with_dropout_drops_nothing():
    checkpoint = made()
    dropping = replace(checkpoint, config=replace(checkpoint.config, dropout=0.5))
    steps = [unroll(c, LINES, "lm_head.weight", (0, 0), 0.01) for c in (checkpoint, dropping)]
    assert steps[0].loss_after == steps[1].loss_after and steps[0].gradient == steps[1].gradient


def listed(step: Unrolled, function: str) -> dict[str, str]:
    """What is told to be made, by name, in any of a function's lines."""
    return dict(made.split(" ", 1) for line in step.listings[function].lines for made in line.made)


def test_the_listings_tell_the_numbers_of_this_step():
    step = unroll(made(), LINES, "lm_head.weight", (1, 2), 0.01)
    assert [*step.listings] == [
        "make_batch",
        "forward",
        "cross_entropy",
        "gradient_of",
        "finite_difference",
        "first_adamw_step",
        "move",
        "loss_of",
    ]
    assert listed(step, "make_batch")["rows"].startswith("(2, 6): ")
    assert listed(step, "forward")["→"].startswith("(2, 5, 11): ")
    assert float(listed(step, "cross_entropy")["loss"]) == pytest.approx(step.terms.loss.item(), rel=1e-6)
    assert float(listed(step, "gradient_of")["gradient"]) == pytest.approx(step.gradient, rel=1e-6)
    assert float(listed(step, "finite_difference")["slope"]) == pytest.approx(step.difference.slope, rel=1e-12)
    assert float(listed(step, "first_adamw_step")["update"]) == pytest.approx(step.adam.update.item(), rel=1e-6)
    assert float(listed(step, "loss_of")["loss"]) == pytest.approx(step.loss_after, rel=1e-6)


# --- What may be asked for --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (("", "abc"), "Line 1 needs at least two tokens"),
        (("abc", "a"), "Line 2 needs at least two tokens"),
        (("abc", "a☃b"), "Line 2: the model does not know “☃”"),
        (("a" * 10, "abc"), "Line 1 has 10 tokens: shorten it to at most 9."),
        (("abc", "a" * 1_001), "Line 2 has 1,001 characters: shorten it to at most 1,000."),
        (("abc", "ab\x00"), "Line 2: the model does not know “‹00›”"),
        (("abc", "ab\ud800"), "Line 2: the model does not know"),
    ],
)
def test_lines_that_are_no_use_are_refused(lines, sentence):
    with pytest.raises(BadInput, match=sentence):
        unroll(made(), lines, "lm_head.weight", (0, 0), 0.01)


@pytest.mark.parametrize(
    ("tensor", "index", "sentence"),
    [
        ("no.such", (0, 0), "no weights named 'no.such'"),
        ("__class__", (0,), "no weights named"),
        ("h.0.attn.mask", (0, 0), "no weights named"),
        ("lm_head.weight", (11, 0), "a row from 0 to 10 and a column from 0 to 15: give whole numbers"),
        ("lm_head.weight", (0, -1), "a row from 0 to 10"),
        ("lm_head.weight", (0,), "a row from 0 to 10"),
        ("lm_head.weight", (0, 0.5), "give whole numbers"),
        ("lm_head.weight", (0, None), "give whole numbers"),
        ("lm_head.weight", (True, 0), "give whole numbers"),
        ("lm_head.weight", (0, 10**400), "give whole numbers"),
        ("ln_f.weight", (16,), "a place from 0 to 15"),
        ("ln_f.weight", (0, 0), "a place from 0 to 15"),
    ],
)
def test_weights_that_are_not_there_are_refused(tensor, index, sentence):
    with pytest.raises(BadInput, match=sentence):
        unroll(made(), LINES, tensor, index, 0.01)


@pytest.mark.parametrize("rate", [0, -1, 11, math.nan, math.inf, None, "0.1", True, 10**400])
def test_learning_rates_that_no_run_may_have_are_refused(rate):
    with pytest.raises(BadInput, match="The learning rate must be a number"):
        unroll(made(), LINES, "lm_head.weight", (0, 0), rate)


def test_a_large_model_is_refused_before_its_weights_are_copied():
    checkpoint = made()
    large = replace(checkpoint, config=replace(checkpoint.config, n_embd=1_024, n_layer=1))
    assert large.config.n_params > SMALL
    with pytest.raises(BadInput, match="take a smaller one into use"):
        unroll(large, LINES, "lm_head.weight", (0, 0), 0.01)


def test_numbers_that_are_too_large_are_told_of():
    huge = checkpoint_with_logits([3e38, -3e38, 0.0, 0.0], CharTokenizer.train("abc"))
    with pytest.raises(BadInput, match="too large to be shown"):
        unroll(huge, ("ab", "aa"), "lm_head.weight", (0, 0), 0.01)


def test_a_line_may_be_as_long_as_context_and_table_allow():
    checkpoint = made()
    assert longest_line(checkpoint) == 9
    assert unroll(checkpoint, ("a" * 9, "b" * 9), "lm_head.weight", (0, 0), 0.01).inputs.shape == (2, 8)
    assert longest_line(made(block_size=100)) == 33


@pytest.mark.parametrize(
    "tokenizer", [WordTokenizer.train("the goose and the cat", 10), BPETokenizer.train("the goose and the cat", 260)]
)
def test_words_and_byte_pairs(tokenizer):
    checkpoint = random_checkpoint(tokenizer, block_size=32)
    step = unroll(checkpoint, ("the goose and", "the cat and"), "wte.weight", (1, 1), 0.01)
    assert tokenizer.decode(step.inputs[0].tolist()).startswith("the")
