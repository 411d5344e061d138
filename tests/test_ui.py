"""What the tabs do without a browser: all input is untrusted, and no tab keeps the others from a new model."""

import doctest
import html
import time
from dataclasses import replace

import gradio as gr
import numpy as np
import pytest

from playground import inspection
from playground.checkpoint import TrainStep
from playground.corpus import Text
from playground.errors import BadInput
from playground.generation import MAX_PROMPT
from playground.inspection import Inspection, inspect
from playground.settings import Settings
from playground.tokenizer import WordTokenizer
from playground.training import make_trainer
from playground.ui import attention, checkpoints, generate, tokenizer, train
from playground.ui.attention import Inspections, Shown
from playground.ui.site import answer, fitting_prompt, suggest_prompt, tell
from playground.workspaces import Host, Workspace


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
    shown = tokenizer._views(workspace, checkpoint, "一 ab")
    assert [view["title"] for view in shown["views"]] == ["Byte-pair subwords", "Words"]


def test_the_tokenizer_tab_shows_the_beginning_of_a_text_that_is_too_long(workspace, tiny_checkpoint):
    shown = tokenizer._views(workspace, tiny_checkpoint, "a" * (tokenizer.MAX_TEXT + 1))
    assert shown["views"][0]["count"] == tokenizer.MAX_TEXT
    assert "of 20,001 characters the first 20,000" in shown["views"][0]["note"]


def test_a_distribution_of_a_prompt_that_says_nothing_is_empty(tiny_checkpoint):
    assert generate._distribution(tiny_checkpoint, "", 1.0, 0, 1.0) is None
    assert generate._distribution(tiny_checkpoint, "Ω", 1.0, 0, 1.0) is None


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


@pytest.mark.parametrize("module", [train, checkpoints])
def test_the_examples_in_the_docstrings_hold(module):
    results = doctest.testmod(module)
    assert results.attempted and not results.failed


def test_a_file_name_for_a_download_is_harmless():
    assert checkpoints._file_name("../a <b>x</b>: y.txt") == "..-a-b-x-b-y.txt"


# --- Attention that is kept for the page ------------------------------------------------------------------------------


def test_a_prompt_is_cut_to_what_the_servers_memory_allows(tiny_checkpoint, monkeypatch):
    config = tiny_checkpoint.config  # 2 layers of 2 heads, a context of 16
    monkeypatch.setattr(inspection, "MAX_WEIGHTS", 100 * config.n_layer * config.n_head)
    prompt = tiny_checkpoint.tokenizer.decode(list(range(12)) * 2)
    seen = inspect(tiny_checkpoint, prompt)
    assert seen.attention.shape[-1] == len(seen.tokens) == 10 and seen.n_dropped == 14
    assert attention._note(seen)["note"].startswith("The prompt has 24 tokens.")


def test_kept_inspections_are_bounded_by_their_size_and_found_only_by_their_ids(monkeypatch):
    weights = np.zeros((1, 1, 8, 8), np.float32)  # 256 bytes, as weights and again as logits
    monkeypatch.setattr(attention, "MAX_KEPT_BYTES", 2_000)
    kept = Inspections()
    keys = [kept.add(Shown("", Inspection([], 0, weights, weights))) for _ in range(5)]
    assert len(set(keys)) == 5 and min(map(len, keys)) >= 20
    for key in [*keys[:2], "guess", ""]:
        with pytest.raises(BadInput, match="not kept any more"):
            kept.get(key)
    assert all(kept.get(key).inspection.attention is weights for key in keys[2:])


@pytest.mark.parametrize("place", [(2, 0), (0, 2), (-2, 0), (0, -2), (-1, 0)])
def test_a_head_that_is_not_there_is_refused(tiny_checkpoint, place):
    seen = inspect(tiny_checkpoint, tiny_checkpoint.tokenizer.decode([0]))
    with pytest.raises(BadInput, match="no such head"):
        attention._checked(seen, *place)


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
