"""What is kept of a run's heads is what its model did at those steps, and travels with the checkpoint."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from handmade import random_checkpoint
from safetensors.torch import load, save

from playground import life
from playground.checkpoint import from_bytes, to_bytes
from playground.config import ModelConfig
from playground.errors import BadInput
from playground.heads import repeated_tokens, scores_of
from playground.inspection import attention_weights
from playground.life import MAX_SNAPSHOTS, MAX_TOKENS, Life, begin_life, look, snapshot_steps
from playground.model import GPT, Trace
from playground.tokenizer import CharTokenizer
from playground.training import make_trainer

CHARS = CharTokenizer.train("to be, or not to be: that is the question.")


@pytest.mark.parametrize("max_iters", [1, 2, 10, 100, 270, 2_300, 1_000_000])
def test_snapshots_are_few_and_lie_ever_further_apart(max_iters):
    steps = snapshot_steps(max_iters, 768)
    assert steps[0] == 0 and steps[-1] == max_iters and len(steps) < MAX_SNAPSHOTS
    gaps = np.diff(steps)
    assert (gaps > 0).all() and all(later >= earlier - 1 for earlier, later in pairwise(gaps))
    assert len(steps) >= min(20, max_iters // 8)
    assert len(snapshot_steps(max_iters, 24)) <= len(steps)


@pytest.mark.parametrize("n_ids", [1, 5, 12, 40])
@pytest.mark.parametrize("block_size", [4, 16, 48])
def test_a_snapshot_is_what_the_model_does(n_ids, block_size):
    checkpoint = random_checkpoint(CHARS, block_size=block_size, dropout=0.5)
    model, ids = checkpoint.model, [i % CHARS.vocab_size for i in range(n_ids)]
    model.train()
    seen = look(begin_life(checkpoint.config, ids), model, 7)
    assert model.training and seen.steps == (7,)
    model.eval()
    T = min(n_ids, block_size, MAX_TOKENS)
    assert seen.ids == tuple(ids[:T])
    weights = attention_weights(checkpoint, ids[:T])  # (L, nh, T, T)
    past = np.tril(np.ones((T, T), dtype=bool))
    np.testing.assert_allclose((seen.attention[0].numpy() / 255) ** 2, weights[:, :, past], atol=1 / 255)
    trace = Trace(("attention",))
    model(repeated_tokens(checkpoint.config, 4), trace)
    expected = scores_of(torch.stack(trace.attention))
    for name, score in vars(seen.head_scores(0)).items():
        np.testing.assert_allclose(score, getattr(expected, name), atol=1e-5, err_msg=name)


@pytest.mark.parametrize(("most", "T"), [(14, 4), (15, 5)])
def test_a_model_of_very_many_heads_is_looked_at_on_fewer_tokens(monkeypatch, most, T):
    config = ModelConfig(vocab_size=9, block_size=16, n_layer=2, n_head=2, n_embd=16)
    monkeypatch.setattr(life, "MAX_BYTES", MAX_SNAPSHOTS * 4 * most)  # for each of the four heads
    seen = look(begin_life(config, list(range(9))), GPT(config), 0)
    assert len(seen.ids) == T and seen.attention.shape == (1, 2, 2, T * (T + 1) // 2)


@pytest.fixture
def trainer(small_text, small_recipe):
    return make_trainer(small_text, small_recipe, device="cpu")


def same(one: Life, other: Life) -> bool:
    return one.to_dict() == other.to_dict() and all(
        torch.equal(tensor, other.tensors()[name]) for name, tensor in one.tensors().items()
    )


def test_a_run_is_looked_at_on_its_way(trainer, small_recipe):
    models = {}
    while not trainer.finished:
        if trainer.n_steps in snapshot_steps(30, 128):
            models[trainer.n_steps] = trainer.checkpoint("now")
        trainer.step()
    finished = trainer.checkpoint("finished")
    assert finished.life.steps == (*models, 30) == snapshot_steps(30, 128)
    half = small_recipe.model.block_size // 2
    assert finished.life.ids == 2 * tuple(trainer.corpus.val[:half].tolist())
    for i, (step, then) in enumerate(models.items()):
        assert then.life.steps[-1] == step
        alone = look(begin_life(trainer.config, list(finished.life.ids)), then.model, step)
        assert torch.equal(finished.life.attention[i], alone.attention[0])
        assert torch.equal(finished.life.scores[i], alone.scores[0])
    assert not torch.equal(finished.life.attention[0], finished.life.attention[-1])


def test_looking_leaves_the_run_as_it_is(small_text, small_recipe):
    recipe = replace(small_recipe, model=replace(small_recipe.model, dropout=0.3))
    watched, alone = (make_trainer(small_text, recipe, device="cpu") for _ in range(2))
    alone.life = None
    for _ in range(12):
        assert watched.step().train_loss == alone.step().train_loss
    assert alone.checkpoint("alone").life is None and len(watched.life.steps) > 5


def test_a_stopped_run_has_its_last_moment_too(trainer):
    for _ in range(13):
        trainer.step()
    before = trainer.life
    assert 13 not in snapshot_steps(30, 128)
    assert trainer.checkpoint("stopped").life.steps == (*before.steps, 13)
    assert trainer.life is before  # a run that only paused goes on as if it had not


def test_a_run_that_goes_on_from_its_state_has_the_same_life(trainer, small_text, small_recipe, tmp_path: Path):
    for _ in range(8):
        trainer.step()
    trainer.save_state(tmp_path / "state")
    again = make_trainer(small_text, small_recipe, device="cpu")
    again.load_state(tmp_path / "state")
    assert same(again.life, trainer.life)
    for run in (trainer, again):
        while not run.finished:
            run.step()
    assert same(again.checkpoint("again").life, trainer.checkpoint("through").life)


def test_what_diverged_is_forgotten(trainer):
    for _ in range(12):  # an evaluation is due every ten
        trainer.step()
    trainer.back_to_good_weights()
    assert trainer.life.steps[-1] <= 10 and len(trainer.life.attention) == len(trainer.life.steps)


def test_the_text_to_watch_can_be_chosen(small_text, small_recipe):
    chosen = make_trainer(small_text, replace(small_recipe, probe=small_text.text[5:9]), device="cpu")
    assert chosen.life.ids == tuple(chosen.tokenizer.encode(small_text.text[5:9]))
    with pytest.raises(BadInput, match="know nothing in the text to watch its heads on"):
        make_trainer(small_text, replace(small_recipe, probe="\u4e2d\u6587"), device="cpu")


@pytest.fixture
def checkpoint(trainer):
    for _ in range(4):
        trainer.step()
    return trainer.checkpoint("young")


def test_a_life_travels_with_its_checkpoint(checkpoint):
    read = from_bytes(to_bytes(checkpoint))
    assert same(read.life, checkpoint.life)
    assert set(read.weights) == set(checkpoint.weights)
    without = replace(checkpoint, life=None)
    assert from_bytes(to_bytes(without)).life is None


def forged(data: bytes, change) -> bytes:
    """The file with its playground header, and its tensors, changed by `change(about, tensors)`."""
    n = int.from_bytes(data[:8], "little")
    about = json.loads(json.loads(data[8 : 8 + n])["__metadata__"]["playground"])
    tensors = load(data)
    change(about, tensors)
    return save(tensors, {"playground": json.dumps(about)})


def longer(about, tensors):
    about["life"]["steps"].append(99)


def disordered(about, tensors):
    about["life"]["steps"].reverse()


def strange(about, tensors):
    about["life"]["ids"][0] = 10**9


def fractional(about, tensors):
    about["life"]["steps"][0] = 0.5


def no_ids(about, tensors):
    about["life"]["ids"] = []


def too_often(about, tensors):
    n = MAX_SNAPSHOTS + 1
    about["life"]["steps"] = list(range(n))
    for name in ("life.attention", "life.scores"):
        tensors[name] = tensors[name][:1].repeat(n, *[1] * (tensors[name].dim() - 1))


def many(about, tensors):
    about["life"]["ids"] *= 100


def nothing(about, tensors):
    about["life"] = 7


def forgotten(about, tensors):
    del about["life"]


def lost(about, tensors):
    del tensors["life.scores"]


def floats(about, tensors):
    tensors["life.attention"] = tensors["life.attention"].float()


def infinite(about, tensors):
    tensors["life.scores"][0] = torch.inf


@pytest.mark.parametrize(
    "change",
    [longer, disordered, strange, fractional, no_ids, many, too_often, nothing, forgotten, lost, floats, infinite],
)
def test_a_forged_life_is_refused(checkpoint, change):
    data = to_bytes(checkpoint)
    assert same(from_bytes(forged(data, lambda about, tensors: None)).life, checkpoint.life)
    with pytest.raises(BadInput, match=r"(snapshots|weights|configuration)"):
        from_bytes(forged(data, change))
