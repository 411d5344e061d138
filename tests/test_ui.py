"""What the tabs do without a browser: all input is untrusted, and no tab keeps the others from a new model."""

import base64
import doctest
import gc
import html
import json
import math
import queue
import random
import subprocess
import sys
import time
import weakref
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from handmade import checkpoint_with_logits, random_checkpoint

from playground import comparison, inspection
from playground.ablation import switch_off, unmask
from playground.checkpoint import Checkpoint, TrainStep
from playground.comparison import Compared
from playground.corpus import Text, split
from playground.embeddings import Rotations, TokenMap, neighbours, positions, token_map
from playground.errors import BadInput
from playground.evaluation import evaluate
from playground.export import NAMES, export_zip, said
from playground.generation import MAX_PROMPT, Sampling, next_logits, next_token_probs, stream_generate
from playground.heads import head_scores
from playground.inspection import Inspection, head_stages, inspect, logit_lens
from playground.learned import Learned, Library
from playground.merging import replay
from playground.settings import Settings
from playground.tokenizer import BPETokenizer, CharTokenizer, GPT2Tokenizer, WordTokenizer
from playground.training import make_trainer
from playground.tries import TRIES
from playground.ui import (
    ablation,
    attention,
    checkpoints,
    closer,
    compare,
    curve,
    embeddings,
    generate,
    learn,
    looks,
    tokenizer,
    train,
)
from playground.ui import (
    evaluate as evaluate_tab,
)
from playground.ui import shown as ui_shown
from playground.ui import site as ui_site
from playground.ui.components.attention_map import AVERAGE, pack_grid
from playground.ui.components.embedding_map import MOST_TOKENS, kind_of, pack_map, pack_positions
from playground.ui.components.run_table import MOST_POINTS, pack_run
from playground.ui.components.switches import MLP
from playground.ui.components.unrolled_step import MOST_LOGITS, pack_choices
from playground.ui.curve import MOST_EVALUATIONS, MOST_STEPS, smooth, thin
from playground.ui.shown import Inspections, Kept, Shown
from playground.ui.site import Site, answer, fitting_prompt, suggest_prompt, tell
from playground.unrolled import unroll
from playground.workspaces import Host, Workspace, Workspaces
from playground.writing import Writer


@pytest.fixture
def host(tmp_path):
    host = Host(Settings(data=tmp_path, workers=1))
    yield host
    host.engine.close(60)


@pytest.fixture
def workspace(host, tmp_path, tiny_checkpoint):
    return Workspace(tmp_path / "visitor", host, {tiny_checkpoint.name: tiny_checkpoint})


def with_samples(checkpoint, *samples):
    steps = [TrainStep(i + 2, 1.0, 0.1, 1.0, 1.0, 1.0, sample) for i, sample in enumerate(samples)]
    return replace(checkpoint, history=tuple(steps))


# --- Prompts that a model knows ---------------------------------------------------------------------------------------


def test_a_prompt_is_suggested_from_the_latest_sample(tiny_checkpoint):
    known = tiny_checkpoint.tokenizer.decode(range(12))
    checkpoint = with_samples(tiny_checkpoint, "old", f"{known}\nsecond line")
    assert suggest_prompt(checkpoint, longest=48) == known.strip().splitlines()[0]


def test_a_suggested_prompt_ends_at_a_word(tiny_checkpoint):
    words = " ".join(["the"] * 30)
    assert suggest_prompt(with_samples(tiny_checkpoint, words), longest=10) == "the the"


@pytest.mark.parametrize("samples", [(), ("",), ("\n \n",), ("ΩΩΩ",), (None, "ΩΩΩ")])
def test_without_a_sample_that_it_knows_a_model_still_gets_a_prompt_that_it_knows(tiny_checkpoint, samples):
    checkpoint = with_samples(tiny_checkpoint, *samples)
    prompt = suggest_prompt(checkpoint, longest=48)
    assert inspect(checkpoint, prompt).tokens[0].kind == "known"


def test_a_visitors_prompt_stays_if_the_model_knows_all_of_it(tiny_checkpoint):
    known = tiny_checkpoint.tokenizer.decode(range(5))
    assert fitting_prompt(tiny_checkpoint, known) == known
    assert fitting_prompt(tiny_checkpoint, known + "Ω") != known + "Ω"
    assert len(fitting_prompt(tiny_checkpoint, known[0] * (MAX_PROMPT + 1))) <= 48


# --- Tabs that show whatever model there is ---------------------------------------------------------------------------


def test_the_tokenizer_tab_leaves_out_a_tokenizer_that_cannot_be_learned(workspace, small_recipe):
    """6,000 different characters make no vocabulary of characters; byte-pair is what such a text is told to use."""
    many = Text("many.txt", "".join(chr(0x4E00 + i) for i in range(6_000)) * 2)
    trainer = make_trainer(many, replace(small_recipe, tokenizer="bpe", tokenizer_vocab_size=260))
    checkpoint = trainer.checkpoint("Many")

    class Run:
        text, past = many, checkpoint.past

    workspace.runs["made it"] = Run
    shown = tokenizer.cut_by_each(workspace, checkpoint, "一 ab")
    assert [view["title"] for view in shown["views"]] == ["Byte-pair subwords", "Words"]


def test_the_tokenizer_tab_shows_the_beginning_of_a_text_that_is_too_long(workspace, tiny_checkpoint):
    shown = tokenizer.cut_by_each(workspace, tiny_checkpoint, "a" * (tokenizer.MAX_TEXT + 1))
    assert shown["views"][0]["count"] == tokenizer.MAX_TEXT
    assert "of 20,001 characters the first 20,000" in shown["views"][0]["note"]


def test_the_tokenizer_tab_shows_the_beginning_of_a_large_vocabulary_and_says_so(workspace, monkeypatch):
    monkeypatch.setattr(tokenizer, "MAX_ROWS", 258)
    pairs = BPETokenizer([(116, 104), (256, 101), (97, 116)])  # "th", "the", "at"
    assert len(tokenizer._vocabulary(pairs)) == 258
    assert tokenizer._vocabulary(pairs)[-1] == [257, "the"]
    assert tokenizer._headed("Vocabulary", 259)["label"] == "Vocabulary: the first 258 of 259"
    assert tokenizer._headed("Vocabulary", 258)["label"] == "Vocabulary"
    monkeypatch.setattr(tokenizer, "MAX_ROWS", 2)
    assert tokenizer._merges(pairs) == [[1, "t", "h", "th", 256], [2, "th", "e", "the", 257]]


# --- Merges replayed --------------------------------------------------------------------------------------------------


@pytest.fixture
def learned_pairs(poll, small_text, small_recipe):
    """Trains a model on byte pairs, or one of other settings, and gives the server functions of the film."""
    functions = {function.__name__: function for function in tokenizer._film(Site(poll.workspaces, None))}

    def learn(text=small_text, start=None, **settings):
        recipe = replace(small_recipe, train=replace(small_recipe.train, max_iters=2), tokenizer="bpe")
        run = poll.workspace.start(text, replace(recipe, **settings), start)
        while run.active:
            time.sleep(0.01)
        assert run.state == "finished"
        return [poll.key, poll.workspace.in_use[1]], poll.workspace.current

    return functions, learn


def test_merges_are_replayed_on_the_text_that_they_were_learned_from(learned_pairs, small_text):
    functions, learn = learned_pairs
    look, checkpoint = learn()
    sent, part = functions["replayed"](look), split(small_text.text)[0]
    seen = replay(checkpoint.tokenizer, part, tokenizer.PASSAGE)
    assert (sent["passage"], sent["n_bytes"], sent["n_chars"]) == (part[:1_000], len(part.encode()), len(part))
    assert unpacked(sent["borders"], np.uint16).tolist() == seen.borders.tolist()
    assert unpacked(sent["times"], np.uint32).tolist() == seen.times.tolist()
    assert unpacked(sent["merges"], np.uint16).reshape(-1, 2).tolist() == [*map(list, checkpoint.tokenizer.merges)]
    assert (
        sent["about"]
        == f"Here on the training part of verses.txt: {len(part):,} characters, of which the first 1,000 are shown."
    )
    assert functions["figure"]([*look, len(seen.times), "svg"])["name"] == "merges.svg"
    for at in (-1, len(seen.times) + 1, 10**30):
        assert "choose one with the slider" in functions["figure"]([*look, at, "svg"])["error"]
    assert "Another model is in use" in functions["replayed"]([look[0], look[1] + 1])["error"]


def test_merges_of_a_fine_tuned_model_are_replayed_on_its_first_text(learned_pairs, small_text):
    functions, learn = learned_pairs
    _, first = learn()
    look, tuned = learn(Text("other.txt", "Quite another text, of quite other words. " * 40), start=first)
    assert tuned.tokenizer.to_dict() == first.tokenizer.to_dict()
    assert functions["replayed"](look)["passage"] == small_text.text[:1_000]


def test_a_model_of_other_tokens_has_merges_beside_it(learned_pairs):
    functions, learn = learned_pairs
    text = "some other text to learn from, whatever it is\n" * 60
    look, _ = learn(Text("mine.txt", text), tokenizer="char")
    sent = functions["replayed"](look)
    assert sent["passage"] == text[:1_000] and "the model's text, to compare" in sent["about"]


def test_there_is_a_sentence_where_no_merges_can_be_replayed(poll, learned_pairs, monkeypatch):
    functions, learn = learned_pairs
    look, checkpoint = learn(tokenizer_vocab_size=256)
    assert "“Byte-pair subwords”" in functions["replayed"](look)["error"]
    elsewhere = replace(checkpoint, tokenizer=BPETokenizer([(116, 104)]), provenance=())
    gpt2 = replace(checkpoint, tokenizer=GPT2Tokenizer([bytes([b]) for b in range(256)], range(256), [], {}))
    for other in (elsewhere, gpt2):
        monkeypatch.setattr(Workspace, "in_use", (other, 7))
        assert "“Byte-pair subwords”" in functions["replayed"]([poll.key, 7])["error"]


def test_of_a_long_text_the_beginning_is_replayed_and_the_page_says_so(learned_pairs, monkeypatch):
    functions, learn = learned_pairs
    monkeypatch.setattr(tokenizer, "MOST_REPLAYED", 1_200)
    look, _ = learn()
    sent = functions["replayed"](look)
    assert sent["n_chars"] == 1_200
    assert "the first 1,200 of its 1,9" in sent["about"]


def test_the_bars_have_the_texts_of_the_likeliest_tokens_alone(tiny_checkpoint):
    sent = generate._distribution("key", tiny_checkpoint, "the", 1.0, 0, 1.0)
    logits = np.frombuffer(base64.b64decode(sent["logits"]), dtype="<f4")
    assert len(logits) == tiny_checkpoint.config.vocab_size
    likeliest = sorted(range(len(logits)), key=lambda i: (-logits[i], i))[:12]
    assert json.loads(sent["rows"]) == [[i, tiny_checkpoint.tokenizer.token_text(i)] for i in likeliest]


def test_a_distribution_of_a_prompt_that_says_nothing_is_empty(tiny_checkpoint):
    assert generate._distribution("key", tiny_checkpoint, "", 1.0, 0, 1.0) is None
    assert generate._distribution("key", tiny_checkpoint, "Ω", 1.0, 0, 1.0) is None


def test_the_plan_says_what_stands_in_the_way_before_anything_starts(small_recipe, host):
    assert "only 2 tokens" in train._cost(Text("short.txt", "ab"), small_recipe, None, host)["note"]
    huge = replace(small_recipe, model=replace(small_recipe.model, n_embd=2048, n_layer=48))
    plan = train._cost(Text("x", "ab" * 500), huge, None, host)
    assert plan["warning"] and "GB of memory" in plan["note"]


def test_the_plan_counts_the_parameters_that_the_model_will_have(small_text, small_recipe, host):
    plan = dict(train._cost(small_text, small_recipe, None, host)["pairs"])
    model = make_trainer(small_text, small_recipe).model
    assert plan["parameters"] == f"{sum(weight.numel() for weight in model.parameters()):,}"
    assert "shared" not in plan["time"]


@pytest.mark.parametrize(("strange", "told"), [("", ""), ("Ω", ""), ("Ωmega ß " * 40, "Ω")])
def test_the_plan_warns_of_what_the_tokenizer_does_not_know(
    strange, told, small_text, small_recipe, tiny_checkpoint, host
):
    other = Text("other.txt", small_text.text[::-1] + strange)
    plan = train._cost(other, small_recipe, tiny_checkpoint, host)
    if told:
        n = strange.count("Ω") + strange.count("ß")
        assert plan["warning"] and f"{100 * n / len(other.text):.0f} % of this text’s characters" in plan["note"]
        assert "(such as “Ω”, “ß”)" in plan["note"] and "byte-pair subwords" in plan["note"]
    else:
        assert (plan["note"], plan["warning"]) == ("", False)
    assert train._cost(other, small_recipe, None, host)["note"] == ""  # a new model gets a tokenizer of this text


def test_the_plan_says_when_a_model_goes_on_with_the_same_text(small_text, small_recipe, tiny_checkpoint, host):
    plan = train._cost(small_text, small_recipe, tiny_checkpoint, host)
    assert "nothing to forget" in plan["note"] and not plan["warning"]


def test_the_head_of_the_page_says_which_text_a_loss_is_of(tiny_checkpoint):
    def told(checkpoint):
        pairs = dict(checkpoints.describe_briefly(checkpoint)["pairs"])
        return pairs["trained on"], pairs["validation loss"]

    loss, estimate = tiny_checkpoint.val_loss, tiny_checkpoint.history[-1].val_loss
    assert told(tiny_checkpoint) == ("verses.txt", f"{loss:.3f}")
    assert told(replace(tiny_checkpoint, val_loss=None)) == ("verses.txt", f"about {estimate:.2f}")
    assert told(replace(tiny_checkpoint, val_loss=None, history=(), provenance=())) == ("unknown", "not measured")


def test_the_plan_counts_on_the_others_who_share_the_machine(small_text, small_recipe, host):
    class Job:
        def work(self, over):
            while not over():
                time.sleep(0.001)
            return True

        def leave(self):
            pass

    for _ in range(2):
        host.engine.add(Job())
    assert dict(train._cost(small_text, small_recipe, None, host)["pairs"])["time"].endswith(", shared with 2 others")


@pytest.mark.parametrize("module", [train, checkpoints, curve, ui_site])
def test_the_examples_in_the_docstrings_hold(module):
    results = doctest.testmod(module)
    assert results.attempted and not results.failed


def downloads_of(workspace, settings):
    """What the buttons below a checkpoint's description ask."""
    workspaces = SimpleNamespace(settings=settings)
    site = SimpleNamespace(workspace=lambda key: workspace, workspaces=workspaces, visit=nullcontext)
    return checkpoints._checkpoint_file(site)


def test_a_model_is_downloaded_for_hugging_face(workspace, tiny_checkpoint):
    sent = downloads_of(workspace, Settings())([["key", tiny_checkpoint.name], "zip"])
    assert sent["name"] == "Verses.zip"
    assert base64.b64decode(sent["data"]) == export_zip(tiny_checkpoint, "Verses")


def test_a_model_that_no_class_computes_is_not_and_the_page_says_what_is_in_the_way(workspace):
    other = random_checkpoint(CharTokenizer.train("abc"), activation="relu2")
    workspace.shipped["Other"] = workspace._checkpoints["Other"] = other
    file = downloads_of(workspace, Settings())
    assert "with “Activation: Squared ReLU”" in file([["key", "Other"], "zip"])["error"]
    assert "data" in file([["key", "Other"], "safetensors"])


@pytest.mark.parametrize("sent", [[["key", "Verses"], "pickle"], [["key"], "zip"], [["key", "Nobody's"], "zip"]])
def test_what_no_button_asks_for_is_refused(sent, workspace):
    assert set(downloads_of(workspace, Settings())(sent)) == {"error"}


def test_a_refused_export_speaks_of_settings_by_their_names_on_the_page(tmp_path, tiny_checkpoint):
    workspaces = Workspaces({"Verses": tiny_checkpoint}, Settings(data=tmp_path))
    with gr.Blocks() as demo:
        train.build(Site(workspaces, gr.BrowserState()))
    blocks = {block.elem_id: block for block in demo.blocks.values()}
    for setting, name in NAMES.items():
        assert blocks[setting].label.removesuffix(f" ({setting})") == name
    for setting in ("position", "norm", "activation"):
        assert [said(value) for _, value in blocks[setting].choices] == [shown for shown, _ in blocks[setting].choices]
    workspaces.close(60)


def test_a_checkpoint_that_could_not_come_back_is_not_downloaded(workspace, tiny_checkpoint):
    """As a browser would fail at it."""
    file = downloads_of(workspace, Settings(upload_mb=1))
    assert file([["key", tiny_checkpoint.name], "safetensors"])["name"] == "Verses.safetensors"
    large = replace(tiny_checkpoint, name="Large", config=replace(tiny_checkpoint.config, n_embd=1_024))
    workspace.shipped["Large"] = workspace._checkpoints["Large"] = large
    sent = file([["key", "Large"], "safetensors"])
    assert sent["error"].startswith("This checkpoint has 97 MB, and at most 1 MB can be downloaded here:")


@pytest.mark.parametrize("hub_mb", [0, 100])
def test_a_host_can_switch_the_hub_off(hub_mb, tmp_path, tiny_checkpoint):
    workspaces = Workspaces({"Verses": tiny_checkpoint}, Settings(data=tmp_path, hub_mb=hub_mb))
    with gr.Blocks() as demo:
        checkpoints.build(Site(workspaces, gr.BrowserState()))
    assert ("model-id" in {block.elem_id for block in demo.blocks.values()}) == (hub_mb > 0)
    assert ("add_from_hub" in {event.name for event in demo.fns.values()}) == (hub_mb > 0)
    workspaces.close(60)


def test_a_file_name_for_a_download_is_harmless():
    assert checkpoints.file_name("../a <b>x</b>: y.txt") == "..-a-b-x-b-y.txt"


# --- The loss curve, however long the run ---------------------------------------------------------------------------


@pytest.fixture
def poll(tmp_path, tiny_checkpoint):
    """Asks for a run as the page does; without an id, for the past of a model that was trained for 30,000 steps."""
    dice = random.Random(0)
    history = [
        TrainStep(i, dice.random(), 0.1, 1.0, float(i), dice.random() if i % 100 == 0 else None)
        for i in range(1, 30_001)
    ]
    long = replace(tiny_checkpoint, history=tuple(history))
    workspaces = Workspaces({long.name: long}, Settings(data=tmp_path, workers=1))
    key, workspace = workspaces.enter(None)
    ask = train._poll(Site(workspaces, None))

    def poll(cursor, run=None):
        return ask([key, run.id if run else f"{train.PAST}0", cursor])

    poll.workspace, poll.history, poll.workspaces, poll.key = workspace, history, workspaces, key
    yield poll
    workspaces.close(60)


def test_thinning_keeps_the_ends_and_the_extremes():
    dice = random.Random(1)
    heights = [dice.random() for _ in range(12_345)]
    heights[777], heights[9_876] = 5.0, -5.0
    kept = thin(range(12_345), heights, most=200)
    assert 150 < len(kept) <= 200 and kept == sorted(set(kept))
    assert {0, 777, 9_876, 12_344} <= set(kept)
    for i in range(99):  # of every stretch the lowest and the highest
        stretch = sorted(range(i * 12_345 // 99, (i + 1) * 12_345 // 99), key=heights.__getitem__)
        assert {stretch[0], stretch[-1]} <= set(kept)


@pytest.mark.parametrize("n", [0, 1, 2, 199, 200])
def test_what_is_short_is_not_thinned(n):
    assert thin(range(n), [1.0] * n, most=200) == list(range(n))


@pytest.mark.parametrize("n", [201, 300, 400, 1_000])
def test_thinning_keeps_to_its_most(n):
    assert len(thin(range(n), list(map(float, range(n))), most=200)) <= 200


def test_a_long_past_comes_thinned_with_all_its_evaluations(poll):
    answer, losses = poll(0), [step.train_loss for step in poll.history]
    assert len(answer["train"]) <= MOST_STEPS and (answer["cursor"], answer["step"]) == (0, 30_000)
    assert [answer["train"][0][0], answer["train"][-1][0]] == [1, 30_000]
    assert {min(losses), max(losses)} <= {point[1] for point in answer["train"]}
    assert all(loss == losses[step - 1] for step, loss, *_ in answer["train"])
    evaluated = [[step.step, step.val_loss, None, None] for step in poll.history if step.val_loss is not None]
    assert len(evaluated) == 300 <= MOST_EVALUATIONS and answer["val"] == evaluated


@pytest.mark.parametrize("cursor", [29_950, 29_999, 30_000])
def test_a_poll_brings_only_what_is_new(poll, cursor):
    answer = poll(cursor)
    assert [point[0] for point in answer["train"]] == list(range(cursor + 1, 30_001)) and answer["cursor"] == cursor
    assert [point[0] for point in answer["val"]] == [30_000] * (cursor < 30_000)


def test_a_poll_beyond_the_end_or_before_the_beginning_says_where_its_points_begin(poll):
    assert poll(10**9)["cursor"] == 30_000 and poll(10**9)["train"] == poll(10**9)["val"] == []
    assert poll(-3) == poll(0)


def test_a_page_that_comes_later_sees_the_same_smoothed_curve(poll):
    """It is told from the whole history to one and from the end of it to the other."""
    whole = {step: smoothed for step, *_, smoothed in poll(0)["train"]}
    for cursor in (100, 700, 3_000, 29_000):
        later = {step: smoothed for step, *_, smoothed in poll(cursor)["train"]}
        shared = whole.keys() & later.keys()
        assert shared
        assert all(later[step] == pytest.approx(whole[step], abs=1e-3) for step in shared)


def test_the_smoothed_loss_is_a_running_average():
    losses = [4.0, 2.0, 3.0]
    second = 4.0 + (2.0 - 4.0) / (1 + 1 / 20)
    assert smooth(losses, 0) == pytest.approx([4.0, second, second + (3.0 - second) / (1 + 2 / 20)])
    assert smooth([1.0, 2.0], 5_000) == pytest.approx([1.0, 1.02])  # later on a loss has a fiftieth's say
    assert smooth([], 0) == []


def test_the_polls_of_a_run_make_up_its_whole_curve(poll, small_text, small_recipe):
    run = poll.workspace.start(small_text, small_recipe)
    points, evaluated, cursor, state = [], [], 0, "starting"
    while state not in ("finished", "failed"):
        answer = poll(cursor, run)
        assert answer["cursor"] == cursor
        points, evaluated = points + answer["train"], evaluated + answer["val"]
        cursor, state = answer["step"], answer["state"]
        time.sleep(0.01)
    history = run.past.history
    assert [point[:4] for point in points] == [[s.step, s.train_loss, s.learning_rate, s.grad_norm] for s in history]
    assert [point[4] for point in points] == pytest.approx(smooth([s.train_loss for s in history], 0))
    assert evaluated == [[s.step, s.val_loss, s.sample, None] for s in history if s.val_loss is not None]


def test_a_poll_from_the_beginning_has_where_a_fine_tuning_began(poll, small_text, small_recipe):
    workspace = poll.workspace
    for text in (small_text, replace(small_text, name="cut.txt", text=small_text.text[:900])):
        run = workspace.start(text, small_recipe, workspace.current if workspace.runs else None)
        while run.active:
            time.sleep(0.02)
    answer, past = poll(0, run), poll(0)
    begun, history = run.past.beginning, run.past.history
    assert answer["val"][0] == [0, begun.val_loss, begun.sample, begun.first_val_loss]
    assert answer["val"][1:] == [
        [s.step, s.val_loss, s.sample, s.first_val_loss] for s in history if s.val_loss is not None
    ]
    assert (answer["text"], answer["first_text"], answer["n_unknown"]) == ("cut.txt", "verses.txt", 0)
    assert answer["points"] == [[step, loss, first] for step, loss, _, first in answer["val"]]
    assert poll(30, run)["points"] == answer["points"]  # also when its evaluations are known, or were left out
    assert answer["first_final_loss"] == workspace.current.first_val_loss > 0
    assert poll(1, run)["val"] == answer["val"][2:]
    assert past["points"] == [] and past["val"] == answer["val"]  # of the model in use


def test_the_figure_of_the_bars_is_drawn_with_their_settings(site, key, monkeypatch):
    drawn = []
    monkeypatch.setattr(generate, "pack_figure", lambda name, kind, draw: drawn.append((name, kind, draw)) or {})
    figure, checkpoint = generate.bars_figure(site), site.workspace(key).current
    assert figure([key, "the", [0.5, 3, 1], "svg"]) == {}
    (name, kind, draw), logits = drawn[0], next_logits(checkpoint.model, checkpoint.tokenizer.encode("the"))
    texts, probs, uncut, caption = draw(SimpleNamespace(next_token_figure=lambda *given: given))
    assert (name, kind) == ("next-token", "svg") and len(texts) == 12
    order = logits.argsort(descending=True, stable=True)[:12]
    assert texts == [checkpoint.tokenizer.token_text(i) for i in order]
    np.testing.assert_allclose(probs, next_token_probs(logits, Sampling(0.5, 3))[order], atol=1e-9)
    np.testing.assert_allclose(uncut, logits.double().softmax(-1)[order], atol=1e-6)
    assert "“the”" in caption and "temperature 0.5, top-k 3, top-p 1" in caption
    assert figure([key, "the", [1, 10**6, 1], "png"]) == {}  # more than there are cuts nothing
    for settings in ([], [1, 0], ["1", 0, 1], [1, None, 1], [1, 0, 7], [9, 0, 1], [1, 0.5, 1], [None, 0, 1]):
        assert figure([key, "the", settings, "png"])["error"].endswith(".")
    assert "prompt is empty" in figure([key, "", [1, 0, 1], "png"])["error"]


# --- Texts in the making ----------------------------------------------------------------------------------------------


@pytest.fixture
def writing(site, tiny_checkpoint):
    """The server functions of a text, and the name under which it is kept."""
    kept = Kept(10**9, generate.NOT_KEPT)
    functions = {function.__name__: function for function in generate._writing(site, kept)}
    return functions, kept.add(generate.Texts([Writer(tiny_checkpoint, "the", 0)]))


def test_tokens_are_given_again_to_a_page_that_has_not_got_them(writing, tiny_checkpoint):
    functions, key = writing
    ids = [step.id for step in stream_generate(tiny_checkpoint, "the", 12, Sampling(0.8), 0)]
    more, got = functions["more"], []
    while len(got) < 12:
        got += more([key, 0, 0, len(got), 12 - len(got), [0.8, 0, 1]])["tokens"]
    assert [token["id"] for token in got] == ids
    assert more([key, 0, 0, 5, 3, [0.8, 0, 1]])["tokens"] == got[5:]  # and nothing more is written
    assert more([key, 0, 0, 12, 0, [0.8, 0, 1]])["tokens"] == more([key, 0, 0, 12, -4, [0.8, 0, 1]])["tokens"] == []


def test_a_page_that_missed_a_choice_gets_the_whole_text_and_changes_nothing(writing):
    functions, key = writing
    settings, chosen = [0.8, 0, 1], 3
    drawn = len(functions["more"]([key, 0, 0, 0, 12, settings])["tokens"])
    answer = functions["choose"]([key, 0, 0, 2, chosen, settings])
    assert (answer["edition"], answer["place"], [t["id"] for t in answer["tokens"]]) == (1, 2, [chosen])
    for name, more in (("choose", chosen), ("put", "t"), ("more", 5)):
        again = functions[name]([key, 0, 0, 2, more, settings])
        assert (again["edition"], again["place"], len(again["tokens"])) == (1, 0, 3) and drawn > 3
    assert functions["choose"]([key, 0, 1, 3, chosen, settings])["edition"] == 2


def test_two_sides_of_one_model_are_kept_with_its_weights_once(tiny_checkpoint):
    model = tiny_checkpoint.nbytes
    one, two = (generate.Texts([Writer(tiny_checkpoint, "the", 0)] * n).nbytes for n in (1, 2))
    assert one > model and two - model == 2 * (one - model)


@pytest.mark.parametrize(
    "settings", [[], [1, 0], ["1", 0, 1], [1, None, 1], [1, 0, 7], [9, 0, 1], [1, 0.5, 1], [None, 0, 1], [1, 10**6, 1]]
)
def test_no_text_goes_on_with_settings_that_are_none(writing, settings):
    functions, key = writing
    for name, more in (("more", 1), ("choose", 0), ("put", "t")):
        assert functions[name]([key, 0, 0, 0, more, settings])["error"].endswith(".")
    assert functions["more"]([key, 0, 0, 0, 0, [1, 0, 1]])["tokens"] == []


def test_what_a_forger_asks_of_a_text_is_refused(writing):
    functions, key = writing
    settings = [1, 0, 1]
    for name, sent in (
        ("more", ["nobody's", 0, 0, 0, 1, settings]),
        ("more", [key, 1, 0, 0, 1, settings]),
        ("more", [key, -1, 0, 0, 1, settings]),
        ("choose", [key, 0, 0, 1, 0, settings]),
        ("choose", [key, 0, 0, 0, -1, settings]),
        ("choose", [key, 0, 0, 0, 10**30, settings]),
        ("put", [key, 0, 0, 0, "\ud800Ω", settings]),
        ("put", [key, 0, 0, 0, "t" * 10**6, settings]),
        ("put", [key, 0, 0, 0, 5, settings]),
        ("more", [key, 0, 0, True, 1, settings]),
    ):
        assert functions[name](sent)["error"].endswith((".", "reload it."))
    assert functions["more"]([key, 0, 0, 0, 0, settings])["tokens"] == []
    assert len(functions["more"]([key, 0, 10**30, 0, 10**30, settings])["tokens"]) > 0  # as many as a moment allows


# --- Evaluation -------------------------------------------------------------------------------------------------------


@pytest.fixture
def sorted_texts(monkeypatch) -> queue.Queue:
    """The digests of texts as they are sorted."""
    digests = queue.Queue()
    build = Learned.build

    def spy(text, tokenizer):
        digests.put(text.sha256)
        return build(text, tokenizer)

    monkeypatch.setattr(Learned, "build", spy)
    return digests


def test_what_a_visitors_model_learned_from_is_sorted_ahead(poll, small_text, small_recipe, sorted_texts):
    with gr.Blocks():
        tab = evaluate_tab.build(Site(poll.workspaces, gr.State()))
    tab.show(poll.workspace, poll.workspace.current, poll.key)  # which ships: everybody's, and of a moment to sort
    run = poll.workspace.start(small_text, small_recipe)
    while run.active:
        time.sleep(0.05)
    tab.show(poll.workspace, poll.workspace.current, poll.key)
    assert sorted_texts.get(timeout=60) == small_text.sha256


def test_what_a_run_learns_from_is_sorted_while_it_trains(poll, small_text, small_recipe, sorted_texts):
    endless = replace(small_recipe, train=replace(small_recipe.train, max_iters=100_000))
    run, library = poll.workspace.start(small_text, endless), Library()
    train._sort_ahead(library, run)
    assert run.active and sorted_texts.get_nowait() == small_text.sha256
    run.stop()
    while run.active:
        time.sleep(0.05)
    library.get(small_text, poll.workspace.current.tokenizer)
    train._sort_ahead(Library(), run)  # of which it is too late
    assert sorted_texts.empty()


# --- A head's life ----------------------------------------------------------------------------------------------------


def test_the_snapshots_of_a_run_come_as_they_are_taken_and_stay_with_its_checkpoint(poll, small_text, small_recipe):
    workspace, ask = poll.workspace, train._life(Site(poll.workspaces, None))
    run, steps, scores = workspace.start(small_text, small_recipe), [], []
    while run.active:
        answer = ask([poll.key, run.id, steps[-1] if steps else -1])
        if answer:
            assert len(answer["badges"]) == len(answer["steps"])
            steps += answer["steps"]
            scores.append(unpacked(answer["scores"]))
        time.sleep(0.01)
    answer = ask([poll.key, run.id, steps[-1] if steps else -1])
    steps, scores = steps + answer["steps"], np.concatenate([*scores, unpacked(answer["scores"])])
    life = workspace.current.life
    assert tuple(steps) == life.steps and answer["due"] is None
    assert np.array_equal(scores, life.scores.numpy().ravel())

    whole = ask([poll.key, f"{train.PAST}0", -1])
    assert whole["steps"] == steps and "".join(whole["tokens"]) == workspace.current.tokenizer.decode(list(life.ids))
    assert np.array_equal(unpacked(whole["attention"], np.uint8), life.attention.numpy().ravel())
    assert (whole["layers"], whole["heads"]) == (run.recipe.model.n_layer, run.recipe.model.n_head)
    assert whole["badges"][-1] == life.head_scores(len(steps) - 1).badges
    assert ask([poll.key, f"{train.PAST}0", steps[-1]])["steps"] == []


def test_figures_of_a_run_are_of_what_is_asked_for(poll, small_text, small_recipe):
    run, site = poll.workspace.start(small_text, small_recipe), Site(poll.workspaces, None)
    while run.active:
        time.sleep(0.02)
    heads, loss = train._life_figure(site), train._loss_figure(site)
    for run_id in (run.id, f"{train.PAST}0"):
        assert heads([poll.key, run_id, 2, "svg"])["name"] == "heads-step2.svg"
        assert base64.b64decode(loss([poll.key, run_id, "png"])["data"]).startswith(b"\x89PNG")
    assert "no picture of the heads at this step" in heads([poll.key, run.id, 10**9, "svg"])["error"]
    assert "PNG or an SVG" in heads([poll.key, run.id, 2, "exe"])["error"]
    assert "PNG or an SVG" in loss([poll.key, run.id, "exe"])["error"]
    assert "not here any more" in loss([poll.key, "nobody's", "png"])["error"]


def test_runs_are_compared_with_the_pages_own_words_for_what_differs(poll, small_text, small_recipe):
    site = Site(poll.workspaces, None)
    controls = {
        "tokenizer": SimpleNamespace(label="Tokenizer", choices=[("Characters", "char"), ("Words", "word")]),
        "max_iters": SimpleNamespace(label="Steps (max_iters)"),
    }
    titles = {name: ("", {}) for name in vars(small_recipe.model)} | compare.titles_of(controls)
    ask, table, figure = compare._runs(site, titles), compare._table(site), compare._figure(site)
    for refused in (ask([poll.key, "", ""]), table([poll.key, "csv"]), figure([poll.key, "png", "step", "", []])):
        assert refused == {"error": compare.NO_RUNS}
    short = replace(small_recipe, tokenizer="word", train=replace(small_recipe.train, max_iters=20))
    runs = []
    for recipe in (small_recipe, short):
        runs.append(poll.workspace.start(small_text, recipe))
        while runs[-1].active:
            time.sleep(0.02)
    answer, rows = ask([poll.key, "", ""]), comparison.compare(runs)
    assert answer["columns"] == [
        ["tokenizer", "Tokenizer", {"char": "Characters", "word": "Words"}],
        ["vocab_size", "Vocabulary size", {}],
        ["max_iters", "Steps (max_iters)", {}],
    ]
    for packed, row in zip(answer["runs"], rows, strict=True):
        assert packed.items() >= row.to_dict().items() and packed["id"] == row.id
        assert packed["val"] == [[step.step, step.seconds, step.val_loss] for step in row.evaluations]
        averages = smooth([step.train_loss for step in row.history], 0)
        assert packed["train"] == [[s.step, s.seconds, loss] for s, loss in zip(row.history, averages, strict=True)]
    told = [packed.pop("told") for packed in answer["runs"]]
    assert told[0].startswith("reference: char tokens") and told[1].startswith("word tokens") and "20 steps" in told[1]
    assert ask([poll.key, "", runs[1].id])["runs"][1]["told"].startswith("reference: word tokens")
    assert ask([poll.key, runs[1].id, ""]) == {"runs": [answer["runs"][1]]}
    assert base64.b64decode(table([poll.key, "csv"])["data"]).decode() == comparison.to_csv(rows)
    drawn = figure([poll.key, "png", "seconds", "nobody's", [runs[0].id, 5, None]])
    assert base64.b64decode(drawn["data"]).startswith(b"\x89PNG")
    assert "show one of the runs first" in figure([poll.key, "png", "step", runs[0].id, ["nobody's"]])["error"]
    assert "show one of the runs first" in figure([poll.key, "png", "hours", "", [runs[0].id]])["error"]
    assert "a CSV or a JSON file" in table([poll.key, "exe"])["error"]
    assert "not here any more" in ask([poll.key, "nobody's", ""])["error"]


def test_however_long_a_run_its_curves_are_short():
    steps = [TrainStep(i, 3 / i, 0.1, 1.0, float(i), 4 / i) for i in range(1, 20_001)]
    row = Compared("id", "a", "running", {}, 9, 20_000, 32, 1.0, 0.1, 1, 9, *[None] * 4, 0, 0.0, "", steps, steps)
    packed = pack_run(row)
    assert all(len(packed[curve]) <= MOST_POINTS for curve in ("val", "train"))
    assert packed["val"][0] == [1, 1.0, 4.0] and packed["val"][-1][0] == 20_000
    assert len(compare._with_curve(row)["curve"]) <= MOST_EVALUATIONS


def test_a_model_of_long_ago_has_no_snapshots(poll):
    ask = train._life(Site(poll.workspaces, None))
    poll.workspace.add(replace(poll.workspace.current, life=None))
    assert ask([poll.key, f"{train.PAST}0", -1]) == {}
    assert "not here any more" in ask([poll.key, "nobody's", -1])["error"]


# --- Attention that is kept for the page ------------------------------------------------------------------------------


def test_a_prompt_is_cut_to_what_the_servers_memory_allows(tiny_checkpoint, monkeypatch):
    config = tiny_checkpoint.config  # 2 layers of 2 heads, a context of 16
    monkeypatch.setattr(inspection, "MAX_WEIGHTS", 100 * config.n_layer * config.n_head)
    prompt = tiny_checkpoint.tokenizer.decode(list(range(12)) * 2)
    seen = inspect(tiny_checkpoint, prompt)
    assert seen.attention.shape[-1] == len(seen.tokens) == 10 and seen.n_dropped == 14
    assert looks._note(seen)["note"].startswith("The prompt has 24 tokens.")


def shown(checkpoint: Checkpoint, inspection: Inspection) -> Shown:
    return Shown("", weakref.ref(checkpoint), inspection)


def test_kept_inspections_are_bounded_by_their_size_and_found_only_by_their_ids(tiny_checkpoint, monkeypatch):
    weights = np.zeros((1, 1, 8, 8), np.float32)  # 256 bytes, as weights and again as logits
    monkeypatch.setattr(ui_shown, "MAX_KEPT_BYTES", 2_000)
    kept = Inspections()
    keys = [kept.add(shown(tiny_checkpoint, Inspection([], 0, weights, weights))) for _ in range(5)]
    assert len(set(keys)) == 5 and min(map(len, keys)) >= 20
    for key in [*keys[:2], "guess", ""]:
        with pytest.raises(BadInput, match="not kept any more"):
            kept.get(key)
    assert all(kept.get(key).inspection.attention is weights for key in keys[2:])


def test_thumbnails_hold_the_largest_weight_of_what_they_cover():
    weights = np.tril(np.random.default_rng(0).random((2, 3, 128, 128), dtype=np.float32))
    packed = pack_grid(weights, [], 1, 2)
    thumbs = np.frombuffer(base64.b64decode(packed["thumbs"]), np.uint8).reshape(2, 3, -1)
    cells = [(query, key) for query in range(64) for key in range(query + 1)]
    for i, (query, key) in enumerate(cells):
        largest = weights[:, :, 2 * query : 2 * query + 2, 2 * key : 2 * key + 2].max((-1, -2))
        assert np.array_equal(thumbs[:, :, i], np.round(np.sqrt(largest) * 255))
    assert (packed["side"], thumbs.shape[-1]) == (64, len(cells))
    assert packed["first"] == {"layer": 1, "head": 2, "weights": base64.b64encode(weights[1, 2].tobytes()).decode()}


@pytest.mark.parametrize("place, first", [((1, 0), (1, 0)), ((0, -1), (0, -1)), ((2, 0), (0, 0)), ((0, -2), (0, 0))])
def test_with_all_heads_comes_the_one_that_is_locked_or_else_the_first(tiny_checkpoint, place, first):
    kept = Inspections()
    key = kept.add(shown(tiny_checkpoint, inspect(tiny_checkpoint, tiny_checkpoint.tokenizer.decode(range(5)))))
    grid, head = attention.grid_functions(kept)
    assert grid([key, *place])["first"] == head([key, *first])


@pytest.mark.parametrize("place", [(2, 0), (0, 2), (-2, 0), (0, -2), (-1, 0)])
def test_a_head_that_is_not_there_is_refused(tiny_checkpoint, place):
    seen = inspect(tiny_checkpoint, tiny_checkpoint.tokenizer.decode([0]))
    with pytest.raises(BadInput, match="no such head"):
        shown(tiny_checkpoint, seen).check(*place)


@pytest.fixture
def site(tiny_checkpoint, tmp_path):
    workspaces = Workspaces({tiny_checkpoint.name: tiny_checkpoint}, Settings(data=tmp_path, workers=1))
    site = Site(workspaces, None)
    yield site
    workspaces.close(60)


@pytest.fixture
def key(site) -> str:
    return site.workspaces.enter(None)[0]


def server_functions(site: Site, kept: Inspections) -> dict:
    return closer.functions(site, kept) | ablation.functions(site, kept) | embeddings.functions(site, kept)


@pytest.fixture
def closely(tiny_checkpoint, site):
    """The server functions for a closer look, by name, and the id of an inspection of nine tokens."""
    kept = Inspections()
    return server_functions(site, kept), kept.add(shown(tiny_checkpoint, inspect(tiny_checkpoint, "the goose")))


def unpacked(packed: str, dtype: type = np.float32) -> np.ndarray:
    return np.frombuffer(base64.b64decode(packed), dtype)


@pytest.mark.parametrize("query", [0, 4, 8, -1])
def test_the_stages_of_a_head_are_sent_for_one_query(tiny_checkpoint, closely, query):
    functions, trace = closely
    sent = functions["stages"]([trace, 1, 0, query])
    stages = head_stages(tiny_checkpoint, tiny_checkpoint.tokenizer.encode("the goose"), 1, 0)
    assert "".join(sent["tokens"]) == "the goose"
    assert (sent["layer"], sent["head"], sent["query"]) == (1, 0, query % 9)
    for name in ("scores", "scaled", "masked", "weights", "output"):
        assert np.array_equal(unpacked(sent[name]), getattr(stages, name)[query])
    assert np.array_equal(unpacked(sent["q"]), stages.query[query])
    assert np.array_equal(unpacked(sent["keys"]), stages.key.ravel())
    assert np.array_equal(unpacked(sent["values"]), stages.value.ravel())


def test_the_lens_names_every_place_of_the_stream(tiny_checkpoint, closely):
    functions, trace = closely
    sent = functions["lens"]([trace, -1])
    names = ["Embedding", "Layer 1 attention", "Layer 1 MLP", "Layer 2 attention", "Layer 2 MLP"]
    assert sent["position"] == 8 and [row["name"] for row in sent["rows"]] == names
    lens = logit_lens(tiny_checkpoint, tiny_checkpoint.tokenizer.encode("the goose"))
    assert sent["rows"][4]["top"][0] == [
        tiny_checkpoint.tokenizer.token_text(lens.top_ids[4, 0]),
        pytest.approx(lens.top_probs[4, 0]),
    ]


@pytest.mark.parametrize("position", [0, 5, -1])
def test_with_the_lens_come_the_models_logits_and_the_likeliest_tokens(tiny_checkpoint, closely, position):
    functions, trace = closely
    sent = functions["lens"]([trace, position])
    logits = inspect(tiny_checkpoint, "the goose").logits[position]  # (V,)
    assert np.array_equal(unpacked(sent["logits"]), logits)
    likeliest = sorted(range(len(logits)), key=lambda i: -logits[i])[:8]
    assert sent["likeliest"] == [tiny_checkpoint.tokenizer.token_text(i) for i in likeliest]


def test_of_equally_likely_tokens_the_lower_id_comes_first(site):
    letters = CharTokenizer.train("abcdefghijkl")  # and the unknown one
    checkpoint = checkpoint_with_logits([0.0, 2, 1, 2, 1, 0, 0, 0, 0, 0, 0, 0, 3], letters)
    kept = Inspections()
    trace = kept.add(shown(checkpoint, inspect(checkpoint, "abc")))
    sent = server_functions(site, kept)["lens"]([trace, -1])
    assert sent["likeliest"] == ["‹unknown›", "b", "d", "c", "e", "a", "f", "g"]


def test_every_heads_scores_are_sent(tiny_checkpoint, closely):
    functions, trace = closely
    sent, scores = functions["scores"]([trace]), head_scores(tiny_checkpoint.model)
    assert [(row["layer"], row["head"]) for row in sent] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for row, (layer, head) in zip(sent, np.ndindex(2, 2), strict=True):
        assert row["badge"] == scores.badge(layer, head)
        assert all(row[name] == pytest.approx(score[layer, head]) for name, score in vars(scores).items())


@pytest.mark.parametrize(
    ("name", "place", "sentence"),
    [
        ("stages", [2, 0, 0], "no such head"),
        ("stages", [0, -1, 0], "An average has no steps"),
        ("stages", [-1, -1, 0], "An average has no steps"),
        ("stages", [0, 0, 9], "no such token"),
        ("stages", [0, 0, -2], "no such token"),
        ("lens", [9], "no such token"),
    ],
)
def test_a_closer_look_at_what_is_not_there_is_refused(closely, name, place, sentence):
    functions, trace = closely
    assert sentence in functions[name]([trace, *place])["error"]


def test_each_heads_badge_is_sent_by_layer(tiny_checkpoint, closely):
    functions, trace = closely
    scores = head_scores(tiny_checkpoint.model)
    assert functions["badges"]([trace]) == [[scores.badge(layer, head) for head in range(2)] for layer in range(2)]


def test_scores_are_measured_once_for_a_model(tiny_checkpoint, closely, monkeypatch):
    functions, trace = closely
    first = functions["scores"]([trace])
    monkeypatch.setattr(closer, "head_scores", None)
    assert functions["scores"]([trace]) == first and "error" not in functions["badges"]([trace])


def test_the_effect_of_what_is_switched_off(tiny_checkpoint, closely, site, key, small_text):
    functions, trace = closely
    ids = tiny_checkpoint.tokenizer.encode("the goose")
    changed = switch_off(tiny_checkpoint, [(1, 0)], [0])
    effect = functions["effect"]([key, trace, [[1, 0], [0, MLP]]])
    assert (effect["layers"], effect["heads"]) == (2, 2)
    assert effect["before"] == pytest.approx(evaluate(tiny_checkpoint, "the goose").loss)
    assert effect["after"] == pytest.approx(evaluate(changed, "the goose").loss)
    assert effect["n_tokens"] == 8 and effect["name"].startswith("the prompt")
    both = [next_logits(checkpoint.model, ids).softmax(-1) for checkpoint in (tiny_checkpoint, changed)]
    texts = [tiny_checkpoint.tokenizer.token_text(i) for i in range(tiny_checkpoint.config.vocab_size)]
    for text, before, after in effect["next"]:
        i = texts.index(text)
        assert (before, after) == (pytest.approx(both[0][i].item()), pytest.approx(both[1][i].item()))
    shown_texts = {text for text, *_ in effect["next"]}
    assert shown_texts == {texts[i] for probs in both for i in probs.topk(6).indices}
    assert [before for _, before, _ in effect["next"]] == sorted((b for _, b, _ in effect["next"]), reverse=True)
    rise = functions["rise"]([key, trace, [[1, 0], [0, MLP]]])["rise"]
    assert rise == pytest.approx(effect["after"] - effect["before"])
    assert functions["effect"]([key, trace, []])["after"] == effect["before"]


def test_the_loss_is_that_of_the_validation_part_where_the_text_is_here(closely, site, key, small_text, small_recipe):
    workspace = site.workspace(key)
    run = workspace.start(small_text, small_recipe)
    while run.active:
        time.sleep(0.05)
    trained, kept = workspace.current, Inspections()
    trace = kept.add(shown(trained, inspect(trained, "the")))
    effect = server_functions(site, kept)["effect"]([key, trace, []])
    assert effect["name"] == f"the validation part of {small_text.name}"
    assert effect["before"] == pytest.approx(evaluate(trained, split(small_text.text)[1]).loss)
    stranger = site.workspaces.enter(None)[0]  # who has not the text
    elsewhere = server_functions(site, kept)["effect"]([stranger, trace, []])
    assert elsewhere["name"].startswith("the prompt, since the text")


def test_what_the_model_writes_with_and_without_a_part(tiny_checkpoint, closely, key):
    functions, trace = closely
    whole, without = functions["texts"]([key, trace, [[0, 0], [0, 1], [1, MLP]]])
    for text, checkpoint in ((whole, tiny_checkpoint), (without, switch_off(tiny_checkpoint, [(0, 0), (0, 1)], [1]))):
        assert text == "".join(step.text for step in stream_generate(checkpoint, "the goose", 120, Sampling(0.8), 0))
    assert whole != without and functions["texts"]([key, trace, []]) == [whole, whole]


@pytest.mark.parametrize("place", [(1, 0), (0, -1), (-1, -1)])
def test_the_mask_is_taken_away(tiny_checkpoint, closely, key, place):
    functions, trace = closely
    sent = functions["mask"]([key, trace, *place])
    free = unmask(tiny_checkpoint)
    layer, head = (slice(None) if i == -1 else slice(i, i + 1) for i in place)
    for name, checkpoint in (("masked", tiny_checkpoint), ("unmasked", free)):
        weights = inspect(checkpoint, "the goose").attention[layer, head].mean((0, 1))
        np.testing.assert_allclose(unpacked(sent[name]).reshape(9, 9), weights, atol=1e-6)
    assert sent["after"] == pytest.approx(evaluate(free, "the goose").loss) != pytest.approx(sent["before"])


@pytest.mark.parametrize(
    "off",
    [[[2, 0]], [[0, 2]], [[0, -2]], [[-1, 0]], [[0]], [0], [["0", 0]], [[0, 0, 0]], [[True, 0]], [None], [[0, 0.0]]],
)
@pytest.mark.parametrize("name", ["effect", "rise", "texts"])
def test_what_is_not_there_cannot_be_switched_off(closely, key, name, off):
    functions, trace = closely
    assert "no such head" in functions[name]([key, trace, off])["error"]


@pytest.mark.parametrize("measured", [[], [0.5] * 5, [0.5] * 7, [0.5] * 5 + ["1"], [0.5] * 5 + [math.nan]])
def test_a_map_that_is_not_measured_to_its_end_is_no_figure(closely, measured):
    functions, trace = closely
    assert "not measured to its end" in functions["rises"]([trace, measured, "svg"])["error"]
    assert functions["rises"]([trace, [0.5, -1, 0, 0.25, 1e-9, 2], "svg"])["name"] == "switched-off.svg"


def test_a_prompt_of_one_token_has_no_loss(tiny_checkpoint, site, key):
    kept = Inspections()
    trace = kept.add(shown(tiny_checkpoint, inspect(tiny_checkpoint, "t")))
    assert "give a prompt of at least two tokens" in server_functions(site, kept)["effect"]([key, trace, []])["error"]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("scores", []),
        ("stages", [0, 0, 0]),
        ("lens", [0]),
        ("embeddings", []),
        ("nearest", [0]),
        ("effect", [[[0, 0]]]),
        ("texts", [[]]),
        ("mask", [0, 0]),
    ],
)
def test_a_kept_inspection_does_not_keep_its_model(tiny_checkpoint, site, key, name, place):
    kept, other = Inspections(), replace(tiny_checkpoint, name="other")
    trace = kept.add(shown(other, inspect(other, "the goose")))
    function = server_functions(site, kept)[name]
    sent = [key, trace, *place] if name in ("effect", "texts", "mask") else [trace, *place]
    assert "error" not in function(sent)
    del other
    gc.collect()
    assert "not kept any more" in function(sent)["error"]


# --- Embeddings and positions -----------------------------------------------------------------------------------------


def embedding_functions(site, checkpoint, prompt):
    """The server functions, and the id of an inspection."""
    kept = Inspections()
    trace = kept.add(shown(checkpoint, inspect(checkpoint, prompt)))
    functions = server_functions(site, kept)
    return functions["embeddings"], functions["nearest"], trace


def test_the_map_of_all_tokens_is_sent_with_the_prompts(tiny_checkpoint, site):
    ask, _, trace = embedding_functions(site, tiny_checkpoint, "the goose")
    sent, seen = ask([trace]), token_map(tiny_checkpoint)
    tokenizer, V = tiny_checkpoint.tokenizer, tiny_checkpoint.config.vocab_size
    assert sent["ids"] == list(range(V)) and sent["vocab_size"] == V
    assert sent["texts"] == [tokenizer.token_text(i) for i in range(V)]
    assert np.array_equal(unpacked(sent["points"]), seen.points.ravel())
    assert sent["explained"] == seen.explained.tolist()
    assert sent["prompt"] == tokenizer.encode("the goose")
    places = positions(tiny_checkpoint)
    assert sent["positions"]["kind"] == "rotary" and sent["positions"]["T"] == 16
    assert np.array_equal(unpacked(sent["positions"]["table"]), places.angles.ravel())
    assert np.array_equal(unpacked(sent["positions"]["similarity"]), places.similarity.ravel())


@pytest.mark.parametrize("id", [0, 7])
def test_neighbours_are_sent_by_id_text_and_cosine(tiny_checkpoint, site, id):
    _, nearest, trace = embedding_functions(site, tiny_checkpoint, "the goose")
    sent, found = nearest([trace, id]), neighbours(tiny_checkpoint, id)
    assert sent["ids"] == found.ids.tolist() and sent["cosines"] == found.cosines.tolist()
    assert sent["texts"] == [tiny_checkpoint.tokenizer.token_text(i) for i in found.ids]


def test_of_a_large_vocabulary_the_first_tokens_and_the_prompts_are_sent():
    words = WordTokenizer.train(" ".join(f"w{i}" for i in range(5_000)), 5_000)
    points = np.arange(2 * words.vocab_size, dtype=np.float32).reshape(-1, 2)
    sent = pack_map(TokenMap(points, np.array([0.5, 0.2])), words, [4_321, 7, 3_000])
    assert sent["ids"] == [*range(MOST_TOKENS), 3_000, 4_321]
    assert sent["vocab_size"] == words.vocab_size
    assert sent["texts"][-1] == words.token_text(4_321)
    assert np.array_equal(unpacked(sent["points"]).reshape(-1, 2), points[sent["ids"]])


@pytest.mark.parametrize(("T", "pairs"), [(256, 256), (257, 300), (2_048, 1_024)])
def test_large_tables_of_positions_are_thinned_evenly(T, pairs):
    angles = np.random.default_rng(0).random((T, pairs), dtype=np.float32)
    similarity = np.random.default_rng(1).random((T, T), dtype=np.float32)
    sent = pack_positions(Rotations(angles, similarity), "rotary")
    rows, columns = sent["rows"], sent["columns"]
    assert max(len(rows), len(columns)) <= 256 < 3 * min(len(rows), len(columns))
    assert len(set(np.diff(rows))) == len(set(np.diff(columns))) == 1 and rows[0] == columns[0] == 0
    assert np.diff(columns)[0] % 2 == 1  # so that neither the sines nor the cosines of a table are lost
    assert np.array_equal(unpacked(sent["table"]), angles[np.ix_(rows, columns)].ravel())
    assert np.array_equal(unpacked(sent["similarity"]), similarity[np.ix_(rows, rows)].ravel())
    assert (sent["T"], sent["width"]) == (T, pairs)


def test_a_model_without_positions_sends_none(site):
    checkpoint = random_checkpoint(CharTokenizer.train("abc"), position="none")
    ask, _, trace = embedding_functions(site, checkpoint, "ab")
    assert ask([trace])["positions"] is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (" the", "letter"),
        ("é", "letter"),
        ("7th", "digit"),
        ("  ", "space"),
        ("\n", "space"),
        (" ?!", "sign"),
        ("_", "sign"),
    ],
)
def test_tokens_are_told_apart_by_their_first_character(text, kind):
    tokenizer = SimpleNamespace(vocab=[text.encode()], unk_id=None)
    assert kind_of(tokenizer, 0) == kind


def test_halves_of_characters_and_the_unknown_token_are_of_no_other_kind():
    assert kind_of(BPETokenizer.train("ab", 256), 0xE2) == "part"
    letters = CharTokenizer.train("ab")
    assert kind_of(letters, letters.unk_id) == "part"


@pytest.mark.parametrize("id", [-1, 10**6])
def test_neighbours_of_a_token_that_is_not_there_are_refused(tiny_checkpoint, site, id):
    _, nearest, trace = embedding_functions(site, tiny_checkpoint, "the goose")
    assert "no such token" in nearest([trace, id])["error"]
    assert "not kept any more" in nearest(["guess", 0])["error"]


def test_embeddings_too_large_to_show_are_told_of(tiny_checkpoint, site):
    weights = tiny_checkpoint.weights | {"wte.weight": tiny_checkpoint.weights["wte.weight"].sign() * 3e38}
    huge = replace(tiny_checkpoint, weights=weights)
    ask, _, trace = embedding_functions(site, huge, "the goose")
    assert "too large to be shown" in ask([trace])["error"]


# --- The course -------------------------------------------------------------------------------------------------------


@pytest.fixture
def looked_at(site, tiny_checkpoint):
    """The two functions of the course, and the id of a look at a sentence."""
    inspections = Inspections()
    key, _ = site.workspaces.enter(None)
    look, _ = looks.look_at(site, inspections, key, tiny_checkpoint, "the goose")
    return learn._lines_of(site, inspections), learn._answer(site, inspections), look["id"]


def test_the_course_has_code_for_every_head_and_average(looked_at):
    lines, _, key = looked_at
    places = [(0, 0), (1, 1), (AVERAGE, AVERAGE), (1, AVERAGE)]
    sent = [lines([key, "attention", *place])["listings"] for place in places]
    assert sent[0] == sent[2] != sent[1]
    assert {listing["file"] for listings in sent for listing in listings} == {"playground/model.py"}
    json.dumps(sent, allow_nan=False)


@pytest.mark.parametrize(
    "forged",
    [["guess", "heads", 0, 0], ["heads", 9, 0], ["heads", 0, -2], ["__class__", 0, 0], ["", 0, 0], [5, 0, 0], []],
)
def test_no_code_is_shown_of_what_is_not_there(looked_at, forged):
    lines, _, key = looked_at
    assert lines(forged if forged[:1] == ["guess"] else [key, *forged])["error"].endswith((".", "reload it"))


@pytest.mark.parametrize("name", ["", "no_mask", "__init__", 5, None])
def test_a_look_answers_the_questions_of_the_course_and_no_other(looked_at, name):
    _, by_a_look, key = looked_at
    assert "reload" in by_a_look([key, name])["error"]
    assert "not kept any more" in by_a_look(["guess", "temperature"])["error"]
    for known in TRIES:
        assert by_a_look([key, known])["sentence"]


# --- One training step unrolled ---------------------------------------------------------------------------------------

STEP = {"lines": ["the goose", "the cat"], "tensor": "wte.weight", "index": [3, 5], "rate": 0.01}


def test_a_step_is_sent_as_it_was_computed(tiny_checkpoint, site, key):
    version = site.workspace(key).in_use[1]
    sent = learn._step(site)([key, version, STEP])
    step = unroll(tiny_checkpoint, STEP["lines"], "wte.weight", (3, 5), 0.01)
    assert sent["shape"] == [2, 6, tiny_checkpoint.config.vocab_size]
    assert sent["n_cut"] == 2 and sent["n_weights"] == tiny_checkpoint.config.n_params
    assert (sent["loss"], sent["loss_after"]) == (step.terms.loss.item(), step.loss_after)
    assert (sent["gradient"], sent["difference"]["slope"]) == (step.gradient, step.difference.slope)
    assert sent["adam"] == {name: number.item() for name, number in step.adam._asdict().items()}
    assert sent["weight"]["index"] == (3, 5) and sent["weight"]["after"] == step.weight.after
    text = tiny_checkpoint.tokenizer.token_text
    for b, places in enumerate(sent["lines"]):
        for t, place in enumerate(places):
            target = int(step.targets[b, t])
            assert place["input"] == [int(step.inputs[b, t]), text(int(step.inputs[b, t]))]
            assert place["target"] == [target, text(target)]
            assert place["loss"] == pytest.approx(place["log_sum_exp"] - place["logit"], abs=1e-6)
            logits = step.logits[b, t].tolist()
            shown = {i: logit for i, _, logit in place["next"]}
            assert all(logits[i] == logit for i, logit in shown.items()) and target in shown
            assert sorted(shown.values())[-MOST_LOGITS:] == sorted(logits)[-MOST_LOGITS:]
    json.dumps(sent, allow_nan=False)


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        STEP | {"lines": ["the goose"]},
        STEP | {"lines": ["the goose", 7]},
        STEP | {"tensor": None},
        STEP | {"index": "35"},
        {name: value for name, value in STEP.items() if name != "rate"},
    ],
)
def test_a_step_of_nothing_is_refused(site, key, chosen):
    assert learn._step(site)([key, site.workspace(key).in_use[1], chosen]) == {"error": learn.NO_CHOICE}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"lines": ["the goose", "Ω"]}, "Line 2: the model does not know “Ω”"),
        ({"tensor": "wpe.weight"}, "no weights named"),
        ({"index": [3, None]}, "give whole numbers"),
        ({"rate": None}, "The learning rate must be a number"),
    ],
)
def test_a_step_that_cannot_be_taken_is_told_of(site, key, change, sentence):
    assert sentence in learn._step(site)([key, site.workspace(key).in_use[1], STEP | change])["error"]


def test_a_step_of_another_model_than_the_page_shows_is_refused(site, key):
    assert "Another model is in use" in learn._step(site)([key, 99, STEP])["error"]


def test_two_lines_are_suggested_from_the_models_own_text(workspace, tiny_checkpoint, small_text):
    class Run:
        text, past = small_text, tiny_checkpoint.past

    workspace.runs["made it"] = Run
    assert learn.suggest_lines(workspace, tiny_checkpoint) == ["The miller's cat", "the brown goose"]


@pytest.mark.parametrize(
    ("samples", "lines"),
    [
        (("", "the goose\n\nt\nthe cat"), ["the goose", "the cat"]),
        (("the goose", "ΩΩΩ"), ["the goose"] * 2),
        ((), ["The"] * 2),
    ],
)
def test_without_its_text_lines_are_suggested_from_what_it_wrote(workspace, tiny_checkpoint, samples, lines):
    checkpoint = with_samples(tiny_checkpoint, *samples)
    assert learn.suggest_lines(workspace, checkpoint) == lines
    choices = pack_choices(checkpoint, lines)
    unroll(checkpoint, choices["lines"], choices["tensor"], choices["index"], choices["rate"])


def test_where_no_line_is_known_none_is_suggested(workspace, tiny_checkpoint):
    checkpoint = with_samples(replace(tiny_checkpoint, tokenizer=CharTokenizer.train("中")))
    assert learn.suggest_lines(workspace, checkpoint) == ["", ""]
    assert pack_choices(checkpoint, ["", ""])["index"] == [0, 0]


# --- Between page and server ------------------------------------------------------------------------------------------


@answer(str, int)
def double(word, times):
    if times < 0:
        raise BadInput("Not less than never.")
    return {"words": [word] * (12 // times)}


@pytest.mark.parametrize(
    "sent", [None, {}, "a", 3, [], ["a"], ["a", "b"], ["a", 1.5], ["a", True], [None, 1], ["a", 1, 2], [["a"], 1]]
)
def test_a_server_function_answers_forged_arguments_with_a_sentence(sent):
    assert double(sent) == {"error": "The page asked for something that is not there: reload it."}


def test_a_server_function_answers_failures_with_a_sentence(caplog):
    assert double(["a", 6]) == {"words": ["a", "a"]}
    assert double(["a", -1]) == {"error": "Not less than never."}
    assert "defect of ours" in double(["a", 0])["error"]
    assert "ZeroDivisionError" in caplog.text  # and a defect is in the log


def test_messages_show_markup_as_text():
    def refuse():
        raise BadInput("<img src=x onerror=alert(1)> is not a text.")

    def refuse_later():
        yield "first"
        refuse()

    with pytest.raises(gr.Error) as caught:
        tell(refuse)()
    assert caught.value.message == html.escape("<img src=x onerror=alert(1)> is not a text.")
    stream = tell(refuse_later)()
    assert next(stream) == "first"
    with pytest.raises(gr.Error, match="&lt;img"):
        next(stream)


def test_a_word_model_that_knows_none_of_its_samples_gets_a_word_as_prompt(tiny_checkpoint):
    words = WordTokenizer.train("to be or not to be", 4)
    checkpoint = with_samples(replace(tiny_checkpoint, tokenizer=words), "\ufffd\ufffd")
    assert suggest_prompt(checkpoint, longest=48) in (" be", " not", " or", "to")


def test_the_page_is_there_before_matplotlib_and_the_compiler_of_torch(tmp_path):
    """Either takes longer to import than a visitor should wait."""
    code = """
import sys
from pathlib import Path
from types import SimpleNamespace
from playground.settings import Settings
from playground.ui import page
page.build(page.open_workspaces(Settings(data=Path(sys.argv[1]))))
print(*sys.modules)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    result = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    loaded = result.stdout.split()
    assert "playground.ui.page" in loaded
    assert not {"matplotlib", "torch._dynamo"} & set(loaded)
