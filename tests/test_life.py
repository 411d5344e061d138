"""What is kept of a run is what its model did and foresaw at those steps, and travels with the checkpoint."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from handmade import random_checkpoint
from safetensors.torch import load, save

from playground import life
from playground.checkpoint import from_bytes, to_bytes
from playground.config import ModelConfig, Recipe
from playground.corpus import Text, split
from playground.errors import BadInput
from playground.heads import repeated_tokens, scores_of
from playground.inspection import attention_weights
from playground.life import MAX_FORESEEN, MAX_SNAPSHOTS, MAX_TOKENS, Life, begin_life, look, snapshot_steps
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
    seen = look(begin_life(checkpoint.config, ids, ids[: block_size + 1]), model, 7)
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
    expect_foreseen(seen, 0, model)
    for name, score in vars(seen.head_scores(0)).items():
        np.testing.assert_allclose(score, getattr(expected, name), atol=1e-5, err_msg=name)


@pytest.mark.parametrize(("most", "T"), [(14, 4), (15, 5)])
def test_a_model_of_very_many_heads_is_looked_at_on_fewer_tokens(monkeypatch, most, T):
    config = ModelConfig(vocab_size=9, block_size=16, n_layer=2, n_head=2, n_embd=16)
    monkeypatch.setattr(life, "MAX_BYTES", MAX_SNAPSHOTS * 4 * most)  # for each of the four heads
    seen = look(begin_life(config, list(range(9)), []), GPT(config), 0)
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
        alone = look(begin_life(trainer.config, list(finished.life.ids), []), then.model, step)
        assert torch.equal(finished.life.attention[i], alone.attention[0])
        assert torch.equal(finished.life.scores[i], alone.scores[0])
    assert not torch.equal(finished.life.attention[0], finished.life.attention[-1])


def test_the_passage_is_held_out_text_from_the_beginning_of_a_line(trainer, small_text, small_recipe):
    """The validation part of the verses begins within a line, and the next one is the first of them."""
    rest = split(small_text.text)[1]
    assert not small_text.text.endswith("\n" + rest)
    assert trainer.tokenizer.decode(list(trainer.life.passage)) == rest[rest.index("\n") + 1 :][:17]
    one_line = Text("line", small_text.text.replace("\n", " "))
    assert begun(one_line, small_recipe) == split(one_line.text)[1][:17]
    blank = Text("blank lines", small_text.text.replace("\n", "\n \n\n"))
    rest = split(blank.text)[1]
    assert begun(blank, small_recipe) == rest[rest.index("\n \n\n") + 4 :][:17]
    short = Text("short", "a bat sat on a mat;\n" * 10)
    longer = replace(small_recipe, model=replace(small_recipe.model, block_size=50))
    assert begun(short, longer) == split(short.text)[1]  # all that there is
    long = replace(small_recipe, model=replace(small_recipe.model, block_size=150))
    assert len(begun(Text("long", small_text.text * 3), long)) == MAX_FORESEEN + 1


def begun(text: Text, recipe: Recipe) -> str:
    """The passage of a run that begins."""
    trainer = make_trainer(text, recipe, device="cpu")
    return trainer.tokenizer.decode(list(trainer.life.passage))


def plainly_foreseen(model: GPT, passage: tuple[int, ...]) -> tuple[list, list, list]:
    """Loss, likeliest token and its probability for each token but the first, one pass for each."""
    losses, guesses, probs = [], [], []
    for t in range(1, len(passage)):
        with torch.no_grad():
            logits = model.eval()(torch.tensor([passage[:t]]))[0, -1]
        losses.append(F.cross_entropy(logits, torch.tensor(passage[t])).item())
        guesses.append(logits.tolist().index(logits.max()))
        probs.append(logits.softmax(0).max().item())
    return losses, guesses, probs


def expect_foreseen(life: Life, i: int, model: GPT) -> None:
    losses, guesses, probs = plainly_foreseen(model, life.passage)
    np.testing.assert_allclose(life.losses[i], losses, atol=1e-5)
    assert life.guesses[i].tolist() == guesses
    np.testing.assert_allclose(life.guess_probs[i], probs, atol=1e-5)


def test_the_passage_is_foreseen_by_each_model_on_the_way(small_text, small_recipe):
    recipe = replace(small_recipe, model=replace(small_recipe.model, dropout=0.3))
    trainer = make_trainer(small_text, recipe, device="cpu")
    while not trainer.finished:
        if trainer.n_steps == 19:
            models = {19: trainer.checkpoint("on the way").model}
        trainer.step()
    finished = trainer.checkpoint("finished")
    kept, seed = finished.life, recipe.train.seed
    models |= {0: GPT(trainer.config, torch.Generator().manual_seed(seed)), 30: finished.model}
    assert kept.losses.shape == kept.guesses.shape == kept.guess_probs.shape == (len(kept.steps), 16)
    for step, model in models.items():
        expect_foreseen(kept, kept.steps.index(step), model)
    assert kept.losses[0].mean() > kept.losses[kept.steps.index(19)].mean() > kept.losses[-1].mean()


@pytest.mark.parametrize(
    ("steps", "moments"),
    [
        ((), ()),
        ((0,), (0,)),
        ((0, 7), (0, 1)),
        ((0, 1, 100), (0, 1, 2)),
        ((0, 1, 30, 45, 60, 100), (0, 3, 5)),
        ((0, 40, 90, 100), (0, 1, 3)),
        ((0, 1, 2, 95, 100), (0, 3, 4)),
    ],
)
def test_the_moments_are_before_halfway_and_after(steps, moments):
    kept = replace(begin_life(ModelConfig(), [1], [1, 2]), steps=steps)
    assert kept.moments == moments


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


def of_old(about, tensors):
    """As checkpoints and states were before there was a passage."""
    del about["life"]["passage"]
    for name in ("losses", "guesses", "guess_probs"):
        del tensors[f"life.{name}"]


def test_an_old_checkpoint_has_a_life_without_a_passage(checkpoint):
    old = from_bytes(forged(to_bytes(checkpoint), of_old)).life
    assert old.passage == () and old.losses.shape == (len(old.steps), 0)
    assert old.steps == checkpoint.life.steps and torch.equal(old.attention, checkpoint.life.attention)
    assert same(from_bytes(to_bytes(replace(checkpoint, life=old))).life, old)


def test_a_run_goes_on_from_an_old_state(trainer, small_text, small_recipe, tmp_path: Path):
    for _ in range(8):
        trainer.step()
    trainer.save_state(tmp_path / "state")
    data = (tmp_path / "state").read_bytes()
    (tmp_path / "state").write_bytes(forged(data, of_old, "state"))
    again = make_trainer(small_text, small_recipe, device="cpu")
    again.load_state(tmp_path / "state")
    for run in (trainer, again):
        while not run.finished:
            run.step()
    old, new = again.checkpoint("old").life, trainer.checkpoint("new").life
    assert old.passage == () and old.steps == new.steps and torch.equal(old.attention, new.attention)
    assert same(from_bytes(to_bytes(again.checkpoint("old"))).life, old)


def forged(data: bytes, change, name: str = "playground") -> bytes:
    """The file with its header of that name, and its tensors, changed by `change(about, tensors)`."""
    n = int.from_bytes(data[:8], "little")
    about = json.loads(json.loads(data[8 : 8 + n])["__metadata__"][name])
    tensors = load(data)
    change(about, tensors)
    return save(tensors, {name: json.dumps(about)})


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


def strange_passage(about, tensors):
    about["life"]["passage"][0] = -1


def no_passage(about, tensors):
    about["life"]["passage"] = None


def beyond_the_context(about, tensors):
    about["life"]["passage"].append(0)
    for name in ("losses", "guesses", "guess_probs"):
        tensors[f"life.{name}"] = tensors[f"life.{name}"][:, :1].repeat(1, 17)


def shorter_passage(about, tensors):
    about["life"]["passage"].pop()


def guess_of_no_token(about, tensors):
    tensors["life.guesses"][0, 0] = 10**6


def guess_before_the_first(about, tensors):
    tensors["life.guesses"][0, 0] = -1


def below_nothing(about, tensors):
    tensors["life.losses"][0, 0] = -0.1


def beyond_the_mean(about, tensors):
    """All of them finite, but not their sum."""
    tensors["life.losses"][0] = 3e38


def not_a_number(about, tensors):
    tensors["life.losses"][0, 0] = torch.nan


def more_than_sure(about, tensors):
    tensors["life.guess_probs"][0, 0] = 1.1


def half_guesses(about, tensors):
    tensors["life.guesses"] = tensors["life.guesses"].half()


@pytest.mark.parametrize(
    "change",
    [
        *(longer, disordered, strange, fractional, no_ids, many, too_often, nothing, forgotten, lost, floats, infinite),
        *(strange_passage, no_passage, beyond_the_context, shorter_passage, guess_of_no_token, guess_before_the_first),
        *(below_nothing, beyond_the_mean, not_a_number, more_than_sure, half_guesses),
    ],
)
def test_a_forged_life_is_refused(checkpoint, change):
    data = to_bytes(checkpoint)
    assert same(from_bytes(forged(data, lambda about, tensors: None)).life, checkpoint.life)
    with pytest.raises(BadInput, match=r"(snapshots|weights|configuration)"):
        from_bytes(forged(data, change))
