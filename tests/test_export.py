"""Models in Hugging Face's format: `transformers` computes what the model here does, and all of it comes back."""

import doctest
import io
import itertools
import json
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from gpt2 import TEXT, save_gpt2
from handmade import random_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from texts import any_text, every_text
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from playground import export
from playground.checkpoint import Checkpoint, from_bytes, to_bytes
from playground.config import ACTIVATIONS, NORMS, POSITIONS, PRESETS, ModelConfig
from playground.errors import BadInput
from playground.export import CLASSES, MODEL, NAMES, OWN, class_of, export_files, export_zip, said
from playground.generation import Sampling, stream_generate
from playground.interop import open_folder
from playground.tokenizer import BPETokenizer, GPT2Tokenizer, Tokenizer, train_tokenizer
from playground.training import make_trainer

PARTS = ("position", "norm", "activation", "qk_norm", "bias")
EVERY = [
    dict(zip(PARTS, parts, strict=True))
    for parts in itertools.product(POSITIONS, NORMS, ACTIVATIONS, (False, True), (False, True))
]
KINDS = ("char", "word", "bpe")


def of(parts: dict) -> str:
    return "-".join(str(part) for part in parts.values())


def has_class(parts: dict) -> bool:
    return any(all(parts[name] in fitting for name, fitting in can.items()) for can in CLASSES.values())


def parts_of(config: ModelConfig) -> dict:
    return {name: getattr(config, name) for name in PARTS}


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Tokenizer]:
    return {kind: train_tokenizer(kind, TEXT * 2, vocab_size=300) for kind in KINDS}


@pytest.fixture
def write(tmp_path):
    """Exports a checkpoint into a folder."""

    def write(checkpoint: Checkpoint) -> Path:
        folder = tmp_path / "export"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, data in export_files(checkpoint).items():
            (folder / name).write_bytes(data)
        return folder

    return write


def opened_from(folder: Path) -> Checkpoint:
    return open_folder(folder.iterdir(), "another name")


def assert_same_model(checkpoint: Checkpoint, folder: Path) -> torch.nn.Module:
    """The class, every weight in use, and the logits of whole rows."""
    model, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert type(model).__name__ == class_of(checkpoint.config)
    assert not any(loading.values()), loading
    config = checkpoint.config
    generator = torch.Generator().manual_seed(1)
    idx = torch.randint(0, config.vocab_size, (3, config.block_size), generator=generator)
    with torch.inference_mode():
        expected = checkpoint.model(idx)
        assert expected.std() > 0.1
        torch.testing.assert_close(model.eval()(idx).logits, expected, rtol=0, atol=1e-4)
    return model


# --- The same logits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_exports(name, write):
    """At its own size, with its own tokenizer, of random weights."""
    recipe = PRESETS[name]
    tokenizer = train_tokenizer(recipe.tokenizer, TEXT * 20, recipe.tokenizer_vocab_size)
    shape = {name: value for name, value in vars(recipe.model).items() if name != "vocab_size"}
    checkpoint = random_checkpoint(tokenizer, scale=2 * recipe.model.n_embd**-0.5, **shape)
    assert_same_model(checkpoint, write(checkpoint))


@pytest.mark.parametrize("parts", [*filter(has_class, EVERY)], ids=of)
def test_every_combination_that_has_a_class(parts, tokenizers, write):
    checkpoint = random_checkpoint(tokenizers["char"], **parts)
    assert_same_model(checkpoint, write(checkpoint))


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(sorted(PRESETS)),
    st.builds(
        dict,
        n_layer=st.integers(1, 3),
        n_head=st.integers(1, 4),
        head_dim=st.integers(1, 5).map(lambda pairs: 2 * pairs),
        block_size=st.integers(4, 40),
        dropout=st.sampled_from([0.0, 0.3]),
    ),
    st.sampled_from(KINDS),
)
def test_random_shapes_of_every_presets_kind(tokenizers, tmp_path_factory, preset, shape, kind):
    shape["n_embd"] = max(4, shape["n_head"] * shape.pop("head_dim"))
    shape["n_head"] = shape["n_head"] if shape["n_embd"] % (2 * shape["n_head"]) == 0 else 1
    checkpoint = random_checkpoint(tokenizers[kind], scale=0.6, **shape, **parts_of(PRESETS[preset].model))
    folder = tmp_path_factory.mktemp("random")
    for name, data in export_files(checkpoint).items():
        (folder / name).write_bytes(data)
    assert_same_model(checkpoint, folder)
    assert to_bytes(opened_from(folder)) == to_bytes(checkpoint)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("preset", ["small", "classic", "modern"])
def test_the_same_greedy_text(preset, kind, tokenizers, write):
    parts = parts_of(PRESETS[preset].model)
    checkpoint = random_checkpoint(tokenizers[kind], block_size=48, n_embd=32, scale=1.0, **parts)
    if "ln_f.bias" in checkpoint.weights:
        checkpoint.weights["ln_f.bias"].zero_()  # it would make the same token the likeliest everywhere
    folder, prompt = write(checkpoint), "the cat said"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    begun = tokenizer(prompt, return_tensors="pt")
    n_new = 48 - begun["input_ids"].size(1)
    written = model.generate(**begun, do_sample=False, max_new_tokens=n_new)[0, -n_new:]
    here = stream_generate(checkpoint, prompt, n_new, Sampling(temperature=0), seed=0)
    assert len(set(written.tolist())) > 1  # not one token over and over
    assert tokenizer.decode(written) == "".join(step.text for step in here)


def test_it_writes_as_the_page_begins_and_up_to_its_context(tokenizers, write):
    folder = write(random_checkpoint(tokenizers["bpe"], **parts_of(PRESETS["classic"].model)))
    how = GenerationConfig.from_pretrained(folder)
    assert (how.do_sample, how.temperature, how.top_k) == (True, 0.8, 0)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.generate(**tokenizer("the", return_tensors="pt")).shape == (1, 8)


@pytest.mark.parametrize("preset", PRESETS)
def test_no_token_ends_a_text(preset, tokenizers, write):
    """The classes' own defaults are numbers that stand for something else here."""
    folder = write(random_checkpoint(tokenizers["char"], **parts_of(PRESETS[preset].model)))
    for read in (AutoConfig.from_pretrained(folder), GenerationConfig.from_pretrained(folder)):
        assert (read.bos_token_id, read.eos_token_id, read.pad_token_id) == (None, None, None)


# --- The same ids -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def theirs(tokenizers, tmp_path_factory) -> dict:
    """The same tokenizers, as `transformers` opens them; each beside a model of another class."""
    opened = {}
    for (kind, tokenizer), preset in zip(tokenizers.items(), ("small", "classic", "modern"), strict=True):
        folder = tmp_path_factory.mktemp(kind)
        for name, data in export_files(random_checkpoint(tokenizer, **parts_of(PRESETS[preset].model))).items():
            (folder / name).write_bytes(data)
        opened[kind] = AutoTokenizer.from_pretrained(folder, model_max_length=10**9)
    return opened


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=200, deadline=None)
@given(text=any_text | every_text)
def test_ids_of_any_text(tokenizers, theirs, kind, text):
    ids = tokenizers[kind].encode(text)
    assert theirs[kind](text)["input_ids"] == ids
    assert theirs[kind].decode(ids) == tokenizers[kind].decode(ids)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_any_ids_have_the_same_text(tokenizers, theirs, kind, data):
    ids = data.draw(st.lists(st.integers(0, tokenizers[kind].vocab_size - 1)))
    assert theirs[kind].decode(ids) == tokenizers[kind].decode(ids)


def kind_of(char: str) -> str:
    return "word" if re.match(r"\w", char) else "space" if char.isspace() else "other"


def test_every_character_is_cut_as_here(tokenizers, theirs):
    """Between letters, digits, punctuation and spaces: the ends of all runs of characters that Python takes alike."""
    kinds = ["surrogate" if 0xD800 <= i < 0xE000 else kind_of(chr(i)) for i in range(0x110000)]
    ends = [i for i in range(1, len(kinds)) if kinds[i] != kinds[i - 1]]
    chars = [chr(i) for end in ends for i in (end - 1, end) if kinds[i] != "surrogate"]
    assert len(chars) > 2_000
    text = "".join(f"a{c}1{c}!{c} {c}\n{c}{c}" for c in chars)
    cut = theirs["word"].backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)
    assert [text[slice(*span)] for _, span in cut] == [*tokenizers["word"].pieces(text)]


@settings(max_examples=50, deadline=None)
@given(learned_from=st.text("ab \n-é", min_size=20, max_size=200), text=st.text("ab \n-é", max_size=80))
def test_byte_pairs_of_any_training(learned_from, text):
    """Few letters, so that many merges could lead to the same bytes."""
    ours = BPETokenizer.train(learned_from, vocab_size=400)
    there = export.tokenizer_json(ours)
    from tokenizers import Tokenizer as Rust

    assert Rust.from_str(json.dumps(there)).encode(text).ids == ours.encode(text)


def test_two_tokens_of_the_same_bytes_are_refused():
    """No training makes such merges, but a stranger's file may have them."""
    a, b, c = b"abc"
    twice = BPETokenizer([(a, b), (b, c), (256, c), (a, 257)])
    with pytest.raises(BadInput, match="same bytes"):
        export.tokenizer_json(twice)


# --- A GPT-2 that was opened here -------------------------------------------------------------------------------------


def test_a_gpt2_made_elsewhere_goes_back(tmp_path, write):
    model, tokenizer = save_gpt2(tmp_path)
    checkpoint = opened_from(tmp_path)
    assert isinstance(checkpoint.tokenizer, GPT2Tokenizer) and checkpoint.tokenizer.added
    folder = write(checkpoint)
    again = assert_same_model(checkpoint, folder)
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name
    back = AutoTokenizer.from_pretrained(folder)
    for text in (TEXT, "a<|endoftext|><|endoftext|> b", "<|endoftext"):
        assert back(text)["input_ids"] == tokenizer(text)["input_ids"]
        assert back.decode(back(text)["input_ids"]) == text
    assert to_bytes(opened_from(folder)) == to_bytes(checkpoint)


# --- And back ---------------------------------------------------------------------------------------------------------


def test_all_of_a_trained_model_comes_back(tiny_checkpoint, write):
    """Weights, tokenizer, settings, history, data, what the heads did: the same bytes as a file."""
    back = opened_from(write(tiny_checkpoint))
    assert back.life and back.history and back.provenance and back.val_loss and back.references
    assert to_bytes(back) == to_bytes(tiny_checkpoint)


def test_all_of_a_fine_tuned_model_comes_back(tiny_checkpoint, small_text, small_recipe, write):
    trainer = make_trainer(small_text, small_recipe, start=tiny_checkpoint)
    trainer.step()
    tuned = trainer.checkpoint("Tuned")
    assert len(tuned.provenance) == 2
    assert to_bytes(opened_from(write(tuned))) == to_bytes(tuned)


@pytest.mark.parametrize("parts", [*filter(has_class, EVERY)], ids=of)
def test_every_combination_comes_back(parts, tokenizers, write):
    checkpoint = random_checkpoint(tokenizers["word"], **parts)
    assert to_bytes(opened_from(write(checkpoint))) == to_bytes(checkpoint)


def test_training_goes_on_from_it(tiny_checkpoint, small_text, small_recipe, write):
    trainers = [
        make_trainer(small_text, small_recipe, start=start)
        for start in (tiny_checkpoint, opened_from(write(tiny_checkpoint)))
    ]
    for trainer in trainers:
        trainer.step()
    first, second = (trainer.checkpoint("Tuned").weights for trainer in trainers)
    assert all(torch.equal(first[name], second[name]) for name in first)


def refusal(folder: Path) -> str:
    with pytest.raises(BadInput) as caught:
        opened_from(folder)
    sentence = str(caught.value)
    assert sentence.endswith(".") and len(sentence) < 400 and sentence.isprintable()
    return sentence


def test_exports_without_one_of_their_files(tiny_checkpoint, write):
    folder = write(tiny_checkpoint)
    (folder / MODEL).unlink()
    assert "model.safetensors is missing" in refusal(folder)
    folder = write(tiny_checkpoint)
    (folder / OWN).unlink()
    assert "'qwen3' model type" in refusal(folder)


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("lm_head.weight", lambda weight: weight[:-1], "by the model's settings it must be"),
        ("lm_head.weight", lambda weight: weight.double(), "of F64"),
        ("lm_head.weight", lambda weight: weight * torch.inf, "not finite"),
        ("transformer.wpe.weight", lambda weight: weight + 1, "wpe.weight is amiss"),
        ("transformer.h.1.mlp.c_fc.bias", lambda weight: weight + 1e-6, "h.1.mlp.c_fc.bias is amiss"),
        ("transformer.score", lambda _: torch.ones(1), "which no model of these settings has"),
        ("lm_head.weight", lambda _: None, "lacks the weight"),
    ],
)
def test_weights_that_are_not_the_models(name, change, sentence, tokenizers, write):
    """Of a model without biases and with fixed positions, which GPT-2 could have otherwise."""
    parts = parts_of(PRESETS["classic"].model) | {"bias": False, "position": "sinusoidal"}
    folder = write(random_checkpoint(tokenizers["char"], **parts))
    weights = load_file(folder / MODEL)
    weights[name] = change(weights.get(name, torch.zeros(1)))
    save_file({name: weight.contiguous() for name, weight in weights.items() if weight is not None}, folder / MODEL)
    assert sentence in refusal(folder)


def test_positions_as_another_processor_computes_them_are_the_same(tokenizers, write):
    parts = parts_of(PRESETS["classic"].model) | {"position": "sinusoidal"}
    checkpoint = random_checkpoint(tokenizers["char"], **parts)
    folder = write(checkpoint)
    weights = load_file(folder / MODEL)
    weights["transformer.wpe.weight"] += 1e-5
    save_file(weights, folder / MODEL)
    assert to_bytes(opened_from(folder)) == to_bytes(checkpoint)


def test_a_header_of_a_model_that_could_not_have_been_exported(tokenizers, write):
    folder = write(random_checkpoint(tokenizers["char"]))
    other = random_checkpoint(tokenizers["char"], activation="relu2")
    (folder / OWN).write_bytes(export.all_but_weights(other))
    assert "Activation: Squared ReLU" in refusal(folder)
    (folder / OWN).write_bytes(to_bytes(other))
    assert "is amiss" in refusal(folder)


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from([MODEL, OWN]), data=st.data())
def test_any_damage_is_refused_in_a_sentence_or_does_no_harm(tiny_checkpoint, tmp_path_factory, name, data):
    files = {file: export_files(tiny_checkpoint)[file] for file in (MODEL, OWN)}
    content = bytearray(files[name])
    at = data.draw(st.integers(0, min(len(content) - 1, 8_000)))
    content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3) | st.sampled_from([b"[", b"9"]))
    folder = tmp_path_factory.mktemp("damaged")
    for file, whole in files.items():
        (folder / file).write_bytes(content if file == name else whole)
    try:
        checkpoint = opened_from(folder)
    except BadInput as error:
        assert str(error).endswith(".") and str(error).isprintable()
    else:
        from_bytes(to_bytes(checkpoint))


# --- What has no class ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [*itertools.filterfalse(has_class, EVERY)], ids=of)
def test_what_is_in_the_way_is_named_with_what_to_choose(parts):
    """Whoever does as the sentence says has a model that can be exported, and changes nothing without need."""
    config = ModelConfig(**parts)
    with pytest.raises(BadInput) as caught:
        class_of(config)
    is_now, advice = re.fullmatch(
        r"No class of Hugging Face's transformers computes what this model does with (.+): to export one, train it "
        r"with (.+)\.",
        str(caught.value),
    ).groups()
    settings_by_name = {shown: name for name, shown in NAMES.items()}
    wanted = dict(each.strip("“”").split(": ") for each in advice.split(", "))
    assert [*wanted] == [each.strip("“").split(": ")[0] for each in is_now.split(", ")]
    changed = {}
    for shown, choices in wanted.items():
        name = settings_by_name[shown]
        options = {said(value): value for value in (parts[name], *all_values(name))}
        for choice in choices.split(" or "):
            assert options[choice] != parts[name]
            changed.setdefault(name, []).append(options[choice])
    for choice in itertools.product(*changed.values()):
        class_of(replace(config, **dict(zip(changed, choice, strict=True))))


def test_biases_are_in_the_way_not_normalised_queries():
    """Both would do, and the default is the better model."""
    with pytest.raises(BadInput, match="train it with “Biases: off”"):
        class_of(ModelConfig(bias=True))


def all_values(name: str) -> tuple:
    return {"position": POSITIONS, "norm": NORMS, "activation": ACTIVATIONS}.get(name, (False, True))


def test_a_model_without_a_class_is_not_exported(tokenizers):
    with pytest.raises(BadInput, match=r"with “Activation: Squared ReLU”: .* “Activation: SwiGLU”"):
        export_files(random_checkpoint(tokenizers["char"], activation="relu2"))


# --- The files --------------------------------------------------------------------------------------------------------


def test_the_archive_holds_the_files_in_one_folder(tiny_checkpoint):
    with zipfile.ZipFile(io.BytesIO(export_zip(tiny_checkpoint, "Verses"))) as archive:
        assert archive.testzip() is None
        found = {name: archive.read(name) for name in archive.namelist()}
    assert found == {f"Verses/{name}": data for name, data in export_files(tiny_checkpoint).items()}


def test_no_file_tells_of_this_machine(tiny_checkpoint):
    files = export_files(tiny_checkpoint)
    assert set(files) == {
        *("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
        *("playground.safetensors", "README.md", "loss.svg"),
    }
    for name, data in files.items():
        for place in (str(Path.home()), str(Path.cwd()), "/tmp", "/home"):
            assert place.encode() not in data, (name, place)


def test_examples_in_docstrings():
    assert doctest.testmod(export).failed == 0
