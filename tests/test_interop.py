"""GPT-2s of Hugging Face's format: the logits and the ids of `transformers`, and no folder that does any harm."""

import json
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from gpt2 import N_TOKENS, TEXT, learned_tokenizer, random_gpt2, save_gpt2
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from texts import any_text
from tokenizers.pre_tokenizers import ByteLevel
from transformers import GPT2LMHeadModel, GPT2TokenizerFast

from playground.__main__ import main
from playground.checkpoint import Checkpoint, from_bytes, to_bytes
from playground.errors import BadInput
from playground.export import byte_signs
from playground.generation import Sampling, stream_generate
from playground.inspection import inspect
from playground.interop import open_folder
from playground.reader import Reader
from playground.tokenizer import gpt2_chunk, tokenizer_from_dict
from playground.training import make_trainer


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder, and the model and the tokenizer that were saved there."""
    folder = tmp_path_factory.mktemp("gpt2")
    return folder, *save_gpt2(folder)


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    """A copy that may be spoiled. It has one file for the tokenizer."""
    folder = shutil.copytree(saved[0], tmp_path / "gpt2")
    (folder / "vocab.json").unlink()
    (folder / "merges.txt").unlink()
    return folder


@pytest.fixture
def folder_of_two(saved, tmp_path) -> Path:
    """A copy whose tokenizer is in vocab.json and merges.txt."""
    folder = shutil.copytree(saved[0], tmp_path / "gpt2")
    (folder / "tokenizer.json").unlink()
    return folder


@pytest.fixture(scope="module")
def opened(saved) -> Checkpoint:
    return opened_from(saved[0])


def opened_from(folder: Path) -> Checkpoint:
    return open_folder(folder.iterdir(), folder.name)


def assert_same_logits(checkpoint: Checkpoint, model: torch.nn.Module) -> None:
    """Of whole rows by the model, and of a row token by token by the reader that writes text."""
    idx = torch.randint(0, model.config.vocab_size, (3, model.config.n_positions))
    with torch.inference_mode():
        expected = model(idx).logits
        assert expected.abs().max() > 1
        torch.testing.assert_close(checkpoint.model(idx), expected, rtol=0, atol=1e-4)
    reader = Reader(checkpoint.model)
    for t, token in enumerate(idx[0].tolist()):
        torch.testing.assert_close(reader.read([token]), expected[0, t], rtol=0, atol=1e-4)


# --- The same logits --------------------------------------------------------------------------------------------------


def test_logits_are_those_of_transformers(saved, opened):
    assert_same_logits(opened, saved[1])


def test_heads_attend_as_those_of_transformers(saved, opened):
    _, model, tokenizer = saved
    model.set_attn_implementation("eager")
    prompt = "the miller's cat"
    with torch.inference_mode():
        expected = model(torch.tensor([tokenizer(prompt)["input_ids"]]), output_attentions=True).attentions
    torch.testing.assert_close(
        torch.from_numpy(inspect(opened, prompt).attention), torch.cat(expected), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_16_bits_become_float32(dtype, folder, saved):
    random_gpt2().to(dtype).save_pretrained(folder)
    assert_same_logits(opened_from(folder), random_gpt2().to(dtype).float())


def test_weights_in_several_files(folder, saved):
    (folder / "model.safetensors").unlink()
    saved[1].save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    assert_same_logits(opened_from(folder), saved[1])


def test_names_without_the_prefix_and_masks_among_the_weights(folder, saved):
    """As in the first GPT-2 that was put online."""
    weights = load_file(folder / "model.safetensors")
    bare = {name.removeprefix("transformer."): weight for name, weight in weights.items()}
    masks = {"h.0.attn.bias": torch.ones(1, 1, 24, 24), "h.0.attn.masked_bias": torch.tensor(-1e4)}
    save_file(bare | masks, folder / "model.safetensors")
    assert_same_logits(opened_from(folder), saved[1])


def test_a_head_of_its_own(folder):
    model = random_gpt2(tie_word_embeddings=False)
    model.save_pretrained(folder)
    assert not torch.equal(model.lm_head.weight, model.transformer.wte.weight)
    assert_same_logits(opened_from(folder), model)


def test_a_head_that_is_not_the_table_although_it_should_be(folder):
    """`transformers` believes the weights, not the config.json."""
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = torch.randn(weights["transformer.wte.weight"].shape)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    model = GPT2LMHeadModel.from_pretrained(folder).eval()
    assert torch.equal(model.lm_head.weight, weights["lm_head.weight"])
    assert_same_logits(opened_from(folder), model)


def test_one_table_under_the_heads_name(folder, saved):
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights.pop("transformer.wte.weight")
    save_file(weights, folder / "model.safetensors")
    assert_same_logits(opened_from(folder), saved[1])


def test_settings_that_are_left_out_are_those_of_transformers(folder, saved):
    kept = {"model_type", "vocab_size", "n_positions", "n_embd", "n_layer", "n_head"}
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({name: config[name] for name in kept}))
    assert_same_logits(opened_from(folder), saved[1])


def test_a_model_may_have_room_for_more_tokens(folder, saved):
    model = random_gpt2(vocab_size=N_TOKENS + 12)
    model.save_pretrained(folder)
    checkpoint = opened_from(folder)
    assert_same_logits(checkpoint, model)
    assert checkpoint.tokenizer.encode(TEXT) == saved[2](TEXT)["input_ids"]
    assert checkpoint.tokenizer.token_text(N_TOKENS + 11) == "‹unused›"
    assert checkpoint.tokenizer.decode([N_TOKENS + 11]) == ""


# --- The same ids -----------------------------------------------------------------------------------------------------


@settings(max_examples=500, deadline=None)
@given(any_text)
def test_ids_are_those_of_transformers(saved, opened, text):
    tokenizer = saved[2]
    ids = tokenizer(text)["input_ids"]
    assert opened.tokenizer.encode(text) == ids
    assert opened.tokenizer.decode(ids) == text == tokenizer.decode(ids)
    assert [token.id for token in opened.tokenizer.tokens(text)] == ids


@given(st.lists(st.integers(0, N_TOKENS - 1)))
def test_any_ids_have_the_text_of_transformers(saved, opened, ids):
    assert opened.tokenizer.decode(ids) == saved[2].decode(ids)


def test_every_character_is_cut_as_in_transformers():
    """Between letters, digits, punctuation and spaces: all characters that this Python knows."""
    chars = [chr(i) for i in range(0x110000) if unicodedata.category(chr(i)) not in ("Cs", "Cn", "Co")]
    pre_tokenizer = ByteLevel(add_prefix_space=False)
    for start in range(0, len(chars), 5_000):
        text = "".join(f"a{c}1{c}!{c}  {c} x" for c in chars[start : start + 5_000])
        assert [m.span() for m in gpt2_chunk().finditer(text)] == [
            span for _, span in pre_tokenizer.pre_tokenize_str(text)
        ]


def test_the_signs_of_bytes_are_those_of_transformers():
    assert sorted(byte_signs()) == sorted(ByteLevel.alphabet())
    for text in ("a", " ", "\n", "é", "🙂", "\x7f", "\xad"):
        signs = "".join(byte_signs()[byte] for byte in text.encode())
        assert signs == "".join(part for part, _ in ByteLevel(False, use_regex=False).pre_tokenize_str(text))


def test_both_forms_of_a_tokenizers_files_are_one_tokenizer(folder_of_two, opened):
    assert opened_from(folder_of_two).tokenizer.to_dict() == opened.tokenizer.to_dict()


def test_a_tokenizer_of_two_files_that_do_not_name_the_end_of_text(folder_of_two):
    """`transformers` gives it the next number, for which the model may have room."""
    vocab = json.loads((folder_of_two / "vocab.json").read_text())
    del vocab["<|endoftext|>"]
    (folder_of_two / "vocab.json").write_text(json.dumps(vocab))
    (folder_of_two / "tokenizer_config.json").unlink()
    text = "by<|endoftext|>the"
    assert (
        opened_from(folder_of_two).tokenizer.encode(text)
        == GPT2TokenizerFast.from_pretrained(folder_of_two)(text)["input_ids"]
    )
    random_gpt2(vocab_size=N_TOKENS - 1).save_pretrained(folder_of_two)
    assert max(opened_from(folder_of_two).tokenizer.encode(text)) < N_TOKENS - 1


def test_more_added_tokens(folder, saved):
    learned = learned_tokenizer(folder)
    learned.add_special_tokens({"additional_special_tokens": ["<|im|>", "<|im|><|", "é"]})
    learned.save_pretrained(folder)
    random_gpt2(vocab_size=len(learned)).save_pretrained(folder)
    tokenizer = opened_from(folder).tokenizer
    for text in ("a<|im|>b", "<|im|><|im|><|endoftext|>", "né <|im|"):
        assert tokenizer.encode(text) == learned(text)["input_ids"]
        assert tokenizer_from_dict(json.loads(json.dumps(tokenizer.to_dict()))).encode(text) == tokenizer.encode(text)


def test_tokens_that_are_added_beside_two_files(folder_of_two, saved):
    """As older fine-tuned models have them."""
    (folder_of_two / "added_tokens.json").write_text(json.dumps({"<|im|>": N_TOKENS}))
    (folder_of_two / "tokenizer_config.json").unlink()
    random_gpt2(vocab_size=N_TOKENS + 1).save_pretrained(folder_of_two)
    tokenizer = opened_from(folder_of_two).tokenizer
    for text in ("a<|im|>b", "the cat<|im|><|endoftext|>"):
        assert tokenizer.encode(text) == GPT2TokenizerFast.from_pretrained(folder_of_two)(text)["input_ids"]
    (folder_of_two / "added_tokens.json").write_text("[1]")
    assert "added_tokens.json" in refusal(folder_of_two)


@pytest.mark.parametrize(
    "settings", [{"add_prefix_space": True}, {"extra_special_tokens": ["<|im|>"]}, {"extra_special_tokens": 3}, [1]]
)
def test_a_tokenizers_settings_that_change_ids_are_refused(folder, settings):
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert "tokenizer_config.json" in refusal(folder)


def test_merges_in_the_older_form(folder, saved, opened):
    edit(
        folder / "tokenizer.json",
        lambda saved: saved["model"].update(merges=[" ".join(merge) for merge in saved["model"]["merges"]]),
    )
    edit(folder / "tokenizer.json", lambda saved: saved["model"].pop("type"))
    assert opened_from(folder).tokenizer.to_dict() == opened.tokenizer.to_dict()


@given(any_text)
def test_long_chunks_are_joined_as_short_ones(opened, text):
    for chunk in (text, text * 3):
        assert tuple(opened.tokenizer._encode_long(chunk)) == opened.tokenizer._encode_chunk(chunk)


def test_a_text_without_spaces_as_long_as_a_prompt_may_be(saved, opened):
    """A slow way to join would take minutes for it."""
    text = "".join(TEXT.split()) * 10 + "the" * 30_000
    assert opened.tokenizer.encode(text) == saved[2](text)["input_ids"]


# --- As any other checkpoint ------------------------------------------------------------------------------------------


def test_an_opened_model_comes_back_from_its_checkpoint(opened):
    back = from_bytes(to_bytes(opened))
    assert (back.name, back.config, back.history, back.provenance) == (opened.name, opened.config, (), ())
    assert back.tokenizer.vocab == opened.tokenizer.vocab
    assert back.tokenizer.to_dict() == opened.tokenizer.to_dict()
    assert back.tokenizer.encode(TEXT + "<|endoftext|>") == opened.tokenizer.encode(TEXT + "<|endoftext|>")
    assert all(torch.equal(back.weights[name], weight) for name, weight in opened.weights.items())


def test_it_writes_what_transformers_writes(saved, opened):
    _, model, tokenizer = saved
    prompt = "the miller's"
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    n = model.config.n_positions - ids.size(1)
    written = model.generate(ids, max_new_tokens=n, do_sample=False, pad_token_id=0)[0, ids.size(1) :].tolist()
    steps = list(stream_generate(opened, prompt, n, Sampling(temperature=0), seed=0))
    assert [step.id for step in steps] == written
    assert "".join(step.text for step in steps) == tokenizer.decode(written)


def test_training_goes_on_from_it(opened, small_text, small_recipe):
    trainer = make_trainer(small_text, small_recipe, start=opened)
    first = trainer.val_loss()
    for _ in range(5):
        trainer.step()
    assert trainer.val_loss() < first
    tuned = from_bytes(to_bytes(trainer.checkpoint("Tuned")))
    assert tuned.step == 5 and tuned.tokenizer.to_dict() == opened.tokenizer.to_dict()


def test_the_command_line_takes_a_folder(folder, opened, capsys, tmp_path):
    assert main(["generate", str(folder), "--prompt", "the cat", "--max-new-tokens", "7", "--temperature", "0"]) == 0
    expected = stream_generate(opened, "the cat", 7, Sampling(temperature=0), seed=0)
    assert capsys.readouterr().out == "the cat" + "".join(step.text for step in expected) + "\n"
    (tmp_path / "text.txt").write_text(TEXT)
    assert main(["evaluate", str(folder), str(tmp_path / "text.txt"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] > 0
    (folder / "model.safetensors").unlink()
    assert main(["generate", str(folder), "--prompt", "the cat"]) == 2
    assert "model.safetensors is missing" in capsys.readouterr().err


# --- Folders that are no GPT-2, or a damaged one ----------------------------------------------------------------------


def edit(file: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")


def refusal(folder: Path) -> str:
    """The sentence that a folder is refused with."""
    with pytest.raises(BadInput) as caught:
        opened_from(folder)
    sentence = str(caught.value)
    assert sentence.endswith(".") and ". " not in sentence and len(sentence) < 400 and sentence.isprintable()
    return sentence


def test_a_missing_file_is_named(folder):
    for name, sentence in {
        "tokenizer.json": "tokenizer is missing",
        "model.safetensors": "model.safetensors is missing",
        "config.json": "config.json is missing",
    }.items():
        (folder / name).unlink()
        assert sentence in refusal(folder)


def test_pickles_are_not_opened(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "can run code" in refusal(folder)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("model_type", "llama", "'llama'"),
        ("model_type", None, "choose a model of the type gpt2"),
        ("activation_function", "relu", "activation_function 'relu'"),
        ("activation_function", ["gelu_new"], "activation_function"),
        ("layer_norm_epsilon", 1e-6, "layer_norm_epsilon 1e-06"),
        ("scale_attn_weights", False, "scale_attn_weights False"),
        ("scale_attn_by_inverse_layer_idx", True, "scale_attn_by_inverse_layer_idx True"),
        ("add_cross_attention", True, "add_cross_attention True"),
        ("n_inner", 48, "n_inner 48"),
        ("n_layer", 400, "n_layer: 400 is outside"),
        ("n_layer", "3", "n_layer: '3' is not a whole number"),
        ("n_layer", True, "n_layer"),
        ("n_layer", 10**310, "n_layer"),
        ("n_head", 3, "cannot be cut into 3 equal heads"),
        ("n_positions", 100_000, "block_size: 100,000 is outside"),
        ("n_positions", 16, "wpe.weight"),
        ("n_embd", 32, "by the model's settings it must be"),
        ("n_embd", [16] * 1000, "n_embd"),
        ("n_layer", 2, "which no model of these settings has"),
        ("n_layer", 4, "lacks the weight"),
        ("vocab_size", 300, "not every token has a number below 300"),
        ("vocab_size", 341, "wte.weight"),
        ("vocab_size", 2**40, "vocab_size"),
        ("resid_pdrop", float("nan"), "dropout"),
        ("tie_word_embeddings", False, "lacks the weight 'lm_head.weight'"),
    ],
)
def test_settings_that_cannot_be(name, value, sentence, folder):
    edit(folder / "config.json", lambda config: config.update({name: value}))
    assert sentence in refusal(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "7", '"gpt2"', "[" * 100_000, "9" * 5_000, "\x00", "{}"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_other_json(name, content, folder):
    (folder / name).write_text(content)
    refusal(folder)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b" " * (8 * 2**20 + 1)], ids=["no UTF-8", "too large"])
@pytest.mark.parametrize("name", ["config.json", "vocab.json", "merges.txt"])
def test_texts_that_cannot_be_read(name, content, folder_of_two):
    (folder_of_two / name).write_bytes(content)
    assert name in refusal(folder_of_two)


def model_part(**changes: object) -> Callable[[dict], object]:
    return lambda saved: saved["model"].update(changes)


def added_token(**changes: object) -> Callable[[dict], object]:
    return lambda saved: saved["added_tokens"][0].update(changes)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (model_part(type="WordPiece"), "another way"),
        (model_part(ignore_merges=True), "another way"),
        (model_part(dropout=0.1), "another way"),
        (model_part(end_of_word_suffix="</w>"), "another way"),
        (model_part(vocab=[]), "not of byte pairs"),
        (model_part(merges={}), "not of byte pairs"),
        (model_part(merges=["Ġ t h"]), "a merge is not of two tokens"),
        (model_part(merges=[["t", 5]]), "a merge is not of two tokens"),
        (lambda saved: saved["model"]["merges"].extend(saved["model"]["merges"][:1]), "the same merge twice"),
        (model_part(merges=[["Z", "Q"]]), "it has no token 'ZQ'"),
        (model_part(merges=[["東", "t"]]), "a merge is not of two tokens"),
        (lambda saved: saved["model"]["vocab"].pop("Ġ"), "it has no token"),
        (lambda saved: saved["model"]["vocab"].pop("x"), "it has no token 'x'"),
        (lambda saved: saved["model"]["vocab"].update({"!": 1.0}), "not every token has a number"),
        (lambda saved: saved["model"]["vocab"].update({"!": True}), "not every token has a number"),
        (lambda saved: saved["model"]["vocab"].update({"!": -1}), "not every token has a number"),
        (lambda saved: saved["model"]["vocab"].update({"!": N_TOKENS}), "not every token has a number"),
        (lambda saved: saved["model"]["vocab"].update({"!": 1, "#": 1}), "one by one"),
        (
            lambda saved: saved["model"]["vocab"].update(
                {"x" * 2_000: saved["model"]["vocab"].pop("".join(saved["model"]["merges"][-1]))}
            ),
            "1,024 bytes",
        ),
        (lambda saved: saved.update(normalizer={"type": "Lowercase"}), "changes a text"),
        (lambda saved: saved.update(pre_tokenizer=None), "cuts up a text"),
        (lambda saved: saved["pre_tokenizer"].update(add_prefix_space=True), "cuts up a text"),
        (lambda saved: saved["pre_tokenizer"].update(use_regex=False), "cuts up a text"),
        (lambda saved: saved["post_processor"].update(special_tokens={"<s>": {}}), "adds tokens"),
        (lambda saved: saved.pop("added_tokens"), "not of byte pairs"),
        (added_token(lstrip=True), "adds a token in another way"),
        (added_token(content=""), "adds a token in another way"),
        (added_token(content=None), "adds a token in another way"),
        (added_token(id=5), "one by one"),
    ],
)
def test_tokenizers_that_are_not_gpt2s(change, sentence, folder):
    edit(folder / "tokenizer.json", change)
    assert sentence in refusal(folder)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04",
        b"\x80\x04.",
        bytes(64),
        b"\xff" * 64,
        (2**40).to_bytes(8, "little") + b"{}",
        b"\x08" + bytes(7) + b"[[[[[[[[",
    ],
    ids=["empty", "ZIP", "pickle", "zeros", "ones", "endless header", "nested"],
)
def test_weights_that_are_no_safetensors(data, folder):
    (folder / "model.safetensors").write_bytes(data)
    assert "no safetensors file" in refusal(folder)


def test_a_header_that_is_too_large(folder):
    """To read it would take many times its size."""
    data = (folder / "model.safetensors").read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = data[8:end] + b" " * 2**25
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data[end:])
    assert "no safetensors file" in refusal(folder)


def test_weights_that_are_cut_short(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-1])
    assert "no safetensors file" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda weight: weight.to(torch.int32), "of I32"),
        (lambda weight: weight.double(), "of F64"),
        (lambda weight: weight.T.contiguous(), "must be [16, 48]"),
        (lambda weight: torch.tensor(0.0), "must be [16, 48]"),
        (lambda weight: weight.index_fill(0, torch.tensor(3), float("nan")), "not finite"),
        (lambda weight: weight.index_fill(0, torch.tensor(3), float("inf")), "not finite"),
    ],
)
def test_a_weight_that_cannot_be(change, sentence, folder):
    weights = load_file(folder / "model.safetensors")
    weights["transformer.h.1.attn.c_attn.weight"] = change(weights["transformer.h.1.attn.c_attn.weight"])
    save_file(weights, folder / "model.safetensors")
    assert sentence in refusal(folder)


def test_a_weight_that_no_gpt2_has(folder):
    weights = load_file(folder / "model.safetensors") | {"score.weight": torch.zeros(2, 16)}
    save_file(weights, folder / "model.safetensors")
    assert "'score.weight'" in refusal(folder)


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(["config.json", "model.safetensors", "tokenizer.json"]), data=st.data())
def test_any_damage_is_refused_in_a_sentence_or_does_no_harm(saved, tmp_path_factory, name, data):
    folder = tmp_path_factory.mktemp("damaged")
    for file in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copy(saved[0] / file, folder)
    content = bytearray((folder / name).read_bytes())
    at = data.draw(st.integers(0, min(len(content) - 1, 8_000)))
    content[at : at + data.draw(st.integers(0, 3))] = data.draw(
        st.binary(max_size=3) | st.sampled_from([b"[", b'"', b"9"])
    )
    (folder / name).write_bytes(content)
    try:
        checkpoint = opened_from(folder)
    except BadInput as error:
        assert str(error).endswith(".") and str(error).isprintable()
    else:
        from_bytes(to_bytes(checkpoint))


# --- The tokenizer in a checkpoint that others might make -------------------------------------------------------------

DAMAGE = {
    "something besides": lambda saved: saved.update(code="import os"),
    "something missing": lambda saved: saved.pop("added"),
    "a token of no bytes": lambda saved: saved["vocab"].__setitem__(300, "東"),
    "a token that is a number": lambda saved: saved["vocab"].__setitem__(300, 7),
    "a token too long": lambda saved: saved["vocab"].__setitem__(0, "x" * 1_025),
    "too many tokens": lambda saved: saved["vocab"].extend([""] * 65_536),
    "too few bytes": lambda saved: saved["bytes"].pop(),
    "bytes in another order": lambda saved: saved["bytes"].reverse(),
    "a byte of no token": lambda saved: saved["bytes"].__setitem__(0, 10**9),
    "a byte that is a list": lambda saved: saved["bytes"].__setitem__(0, []),
    "a merge of two": lambda saved: saved["merges"][0].pop(),
    "a merge that is a text": lambda saved: saved["merges"].__setitem__(0, "abc"),
    "a merge of a token below 0": lambda saved: saved["merges"][0].__setitem__(0, -1),
    "a merge of True": lambda saved: saved["merges"][0].__setitem__(0, True),
    "a merge that becomes something else": lambda saved: saved["merges"][0].__setitem__(2, 0),
    "a merge with nothing": lambda saved: (
        saved["vocab"].append(""),
        saved["merges"].append([len(saved["vocab"]) - 1, 5, 5]),
    ),
    "a merge twice": lambda saved: saved["merges"].append(saved["merges"][0]),
    "an added token that is empty": lambda saved: saved["added"].update({"": 3}),
    "an added token of a surrogate": lambda saved: saved["added"].update({"\ud800": 3}),
    "an added token without a number": lambda saved: saved["added"].update({"<s>": None}),
    "very many added tokens": lambda saved: saved["added"].update({f"<{i}>": 3 for i in range(257)}),
    "added tokens in a list": lambda saved: saved.update(added=[339]),
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_tokenizer_that_others_made_is_refused(change, opened):
    saved = json.loads(json.dumps(opened.tokenizer.to_dict()))
    tokenizer_from_dict(saved)
    change(saved)
    with pytest.raises(BadInput, match="tokenizer in this file cannot be used") as caught:
        tokenizer_from_dict(saved)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300
