"""Checkpoints: one file that brings everything back, and no file, however made, that does any harm."""

import hashlib
import json
import math
import pickle
import random
import re
import resource
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save as save_tensors
from surroundings import no_file_beyond

from playground.checkpoint import (
    FILE_NAME,
    Beginning,
    Checkpoint,
    Past,
    Provenance,
    clean_name,
    from_bytes,
    load,
    save,
    to_bytes,
)
from playground.config import TOKENIZER_KINDS, ModelConfig
from playground.corpus import Text
from playground.errors import BadInput
from playground.generation import write_sample
from playground.tokenizer import CharTokenizer
from playground.training import make_trainer

HUGE = 10**310  # JSON can hold it, a float cannot

# --- Files that others might make -------------------------------------------------------------------------------------


def raw_file(header: object, body: bytes = b"") -> bytes:
    """A safetensors file written by hand: 8 bytes of length, the header's JSON, the tensors' bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def shortly(value: object) -> str:
    """What a parameter is called in pytest's report."""
    return repr(value).replace(repr(HUGE), "HUGE")[:60]


def header_of(data: bytes) -> tuple[dict, bytes]:
    """The header's JSON and the tensors' bytes of a safetensors file."""
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def about_of(checkpoint: Checkpoint) -> dict:
    """All that the playground's own header says of a checkpoint, but for the snapshots of its training."""
    return json.loads(header_of(to_bytes(replace(checkpoint, life=None)))[0]["__metadata__"]["playground"])


def forged(about: object, weights: dict) -> bytes:
    return save_tensors(weights, metadata={"playground": json.dumps(about)})


def refusal(data: bytes) -> str:
    """The sentence that a file is refused with."""
    with pytest.raises(BadInput) as caught:
        from_bytes(data)
    sentence = str(caught.value)
    assert sentence.endswith(".") and len(sentence) < 500 and sentence.isprintable()
    return sentence


@pytest.fixture(scope="module")
def about(tiny_checkpoint) -> dict:
    return about_of(tiny_checkpoint)


@pytest.fixture
def forge(tiny_checkpoint, about) -> Callable[..., bytes]:
    """A file of the tiny checkpoint in which some entries of the playground's header are others."""
    return lambda **entries: forged(about | entries, tiny_checkpoint.weights)


# --- There and back ---------------------------------------------------------------------------------------------------


def assert_same(one: Checkpoint, other: Checkpoint) -> None:
    assert (one.name, one.past) == (other.name, other.past)
    assert type(one.tokenizer) is type(other.tokenizer)
    assert one.tokenizer.vocab == other.tokenizer.vocab
    assert one.tokenizer.to_dict() == other.tokenizer.to_dict()
    assert one.weights.keys() == other.weights.keys()
    assert all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


@pytest.mark.parametrize("kind", TOKENIZER_KINDS)
def test_a_checkpoint_comes_back_exactly(kind, small_text, small_recipe, tmp_path):
    trainer = make_trainer(small_text, replace(small_recipe, tokenizer=kind), sampler=write_sample)
    for _ in range(3):
        trainer.step()
    first = replace(trainer.checkpoint("Verses"), val_loss=trainer.val_loss())
    assert first.step == 3 and first.history[0].sample and first.provenance[0].name == "verses.txt"

    save(first, tmp_path / "deep" / "folder" / FILE_NAME)

    assert_same(load(tmp_path / "deep" / "folder"), first)
    assert_same(load(tmp_path / "deep" / "folder" / FILE_NAME), first)
    prompt = 'the "goose" of 1897 — ein Gänschen 🙂'
    assert load(tmp_path / "deep" / "folder").tokenizer.encode(prompt) == first.tokenizer.encode(prompt)


def test_the_same_checkpoint_gives_the_same_logits_and_the_same_file(tiny_checkpoint):
    again = from_bytes(to_bytes(tiny_checkpoint))
    idx = torch.tensor([tiny_checkpoint.tokenizer.encode("the goose")])
    assert torch.equal(again.model(idx), tiny_checkpoint.model(idx))
    assert to_bytes(again) == to_bytes(tiny_checkpoint)


def test_a_checkpoints_model_is_made_of_its_weights(tiny_checkpoint):
    """Not of copies: of a large one there is no room for two."""
    for name, weight in tiny_checkpoint.model.state_dict().items():
        assert weight.data_ptr() == tiny_checkpoint.weights[name].data_ptr()
    assert not any(weight.requires_grad for weight in tiny_checkpoint.weights.values())


def test_a_checkpoint_without_history_and_losses_comes_back(tiny_checkpoint):
    bare = replace(tiny_checkpoint, history=(), provenance=(), val_loss=None)
    assert_same(from_bytes(to_bytes(bare)), bare)
    assert bare.step == 0


def test_the_past_of_a_checkpoint_comes_back_as_json(tiny_checkpoint):
    past = tiny_checkpoint.past
    assert past.history == tiny_checkpoint.history and past.references.n_tokens > 0 and past.val_loss > 0
    assert past.provenance == tiny_checkpoint.provenance
    assert (past.config, past.train_config) == (tiny_checkpoint.config, tiny_checkpoint.train_config)
    assert Past.from_dict(json.loads(json.dumps(past.to_dict()))) == past
    bare = Past(past.config, past.train_config)
    assert Past.from_dict(json.loads(json.dumps(bare.to_dict()))) == bare


def test_a_past_of_another_form_is_refused(tiny_checkpoint):
    about = tiny_checkpoint.past.to_dict()
    for entry in about.keys() - {"val_loss", "first_val_loss", "beginning"}:
        with pytest.raises(BadInput):
            Past.from_dict({name: value for name, value in about.items() if name != entry})


def test_provenance_is_name_length_and_hash(tiny_checkpoint, small_text):
    sha256 = hashlib.sha256(small_text.text.encode()).hexdigest()
    assert from_bytes(to_bytes(tiny_checkpoint)).provenance == (Provenance("verses.txt", len(small_text.text), sha256),)


def test_a_header_of_any_length_comes_back(tiny_checkpoint):
    """The file begins with the header's length, whose bytes may look like those that other formats begin with."""
    for extra in range(0, 256, 8):
        named = replace(tiny_checkpoint, provenance=(Provenance("a", 1, "n" * extra),))
        assert from_bytes(to_bytes(named)).provenance == named.provenance


def test_a_header_whose_length_reads_pk_is_no_zip_file(tiny_checkpoint):
    length = int.from_bytes(b"PK", "little")  # 19,280, which a longer history reaches
    shorter = int.from_bytes(to_bytes(tiny_checkpoint)[:8], "little")
    sha256 = tiny_checkpoint.provenance[0].sha256
    longer = replace(tiny_checkpoint, provenance=(Provenance("verses.txt", 1832, sha256 + "0" * (length - shorter)),))
    assert to_bytes(longer)[:8] == b"PK" + bytes(6)
    assert from_bytes(to_bytes(longer)).provenance == longer.provenance


# --- The training text stays at home ----------------------------------------------------------------------------------

SECRET = "My grandmother keeps the key of her blue cupboard under the third flower pot beside the well. "


@pytest.mark.parametrize("kind", ["char", "word"])
def test_the_training_text_is_nowhere_in_the_file(kind, small_recipe):
    trainer = make_trainer(Text("diary.txt", SECRET * 12), replace(small_recipe, tokenizer=kind), sampler=write_sample)
    trainer.step()
    data = to_bytes(trainer.checkpoint("Diary"))
    assert b"diary.txt" in data  # the header is there to be read
    pieces = {SECRET[i : i + 32] for i in range(len(SECRET) - 32)}  # some six words in their order: no coincidence
    for encoding in ("utf-8", "utf-16-le", "utf-32-le"):
        assert not [piece for piece in pieces if piece.encode(encoding) in data]


# --- Names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_name", "cleaned"),
    [
        ("Verses", "Verses"),
        ("  two \t\n lines \r\n", "two lines"),
        ("bell \x07 and \x1b[31mred\x00", "bell and [31mred"),
        ("left \u202egnp.exe", "left gnp.exe"),  # a mark that turns the rest of a line round
        ("half \ud83d pair", "half pair"),
        ("n" * 200, "n" * 80),
        ("", "Untitled"),
        ("\n\x00", "Untitled"),
        (None, "Untitled"),
        (["a list"], "['a list']"),
        ("<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"),  # shown as text, so it may stay
        ("Märchen 🙂", "Märchen 🙂"),
    ],
)
def test_names_are_one_printable_line(given_name, cleaned):
    assert clean_name(given_name).replace("/", " ") == cleaned


@pytest.mark.parametrize("given_name", ["../../etc/passwd", "..\\..\\boot.ini", "/root", "C:\\x", "a/b", ".", ".."])
def test_names_lead_to_no_other_folder(given_name):
    cleaned = clean_name(given_name)
    assert not set(cleaned) & set("/\\") and cleaned not in (".", "..")


@given(st.text(st.characters(), max_size=120))
def test_a_cleaned_name_stays_as_it_is(given_name):
    """Otherwise a checkpoint would come back from its file under another name."""
    cleaned = clean_name(given_name)
    assert cleaned.isprintable() and 1 <= len(cleaned) <= 80
    assert clean_name(cleaned) == cleaned


def test_the_name_in_a_file_is_cleaned(forge):
    assert from_bytes(forge(name="a\nb\x00" + "c" * 100)).name == "a b " + "c" * 76


def test_the_names_of_texts_in_a_file_are_cleaned(forge):
    """They stand in legends, which take a minute to draw of 100,000 letters, and in what the page is sent."""
    loaded = from_bytes(
        forge(provenance=[["a\n" + "b" * 100_000, 1, ""]], beginning=[[1.0, None, 1.0, "../" + "c" * 100_000]])
    )
    assert loaded.provenance[0].name == "a " + "b" * 78
    assert loaded.beginning.first_text == ".. " + "c" * 77


def test_a_run_on_texts_of_any_name_has_the_past_that_it_is_saved_with(small_text, small_recipe, tiny_checkpoint):
    """Or the text of a checkpoint would be found until it is read again, and not after."""
    odd = replace(small_text, name="odd/" * 50)
    trainer = make_trainer(odd, small_recipe, tiny_checkpoint, first=odd)
    trainer.step()
    past = trainer.checkpoint("odd").past
    assert Past.from_dict(json.loads(json.dumps(past.to_dict()))) == past
    assert past.beginning.first_text == past.provenance[-1].name == clean_name(odd.name)


# --- Saving and loading -----------------------------------------------------------------------------------------------


def test_a_failure_while_saving_leaves_the_old_file(tiny_checkpoint, tmp_path):
    """A real limit on the size of files: the system refuses in the middle, as a full disk does."""
    path = tmp_path / FILE_NAME
    save(tiny_checkpoint, path)
    with no_file_beyond(path.stat().st_size // 2), pytest.raises(OSError, match="File too large") as caught:
        save(replace(tiny_checkpoint, name="Second"), path)
    assert caught.value.strerror == "File too large"
    assert_same(load(path), tiny_checkpoint)
    assert list(tmp_path.iterdir()) == [path]


def test_saving_replaces_the_file_and_leaves_nothing_else(tiny_checkpoint, tmp_path):
    save(tiny_checkpoint, tmp_path / FILE_NAME)
    save(replace(tiny_checkpoint, name="Second"), tmp_path / FILE_NAME)
    assert load(tmp_path).name == "Second"
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_where_no_checkpoint_is_a_sentence_says_so(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "nowhere.safetensors"):
        with pytest.raises(BadInput, match=f"no checkpoint at {re.escape(str(path))}"):
            load(path)


# --- Files that are no checkpoints ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        bytes(7),
        bytes(8),
        bytes(1000),
        b"Once upon a time there was a miller.",
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00",
        random.Random(1).randbytes(5000),
        b"\xff" * 100,
    ],
    ids=["empty", "one byte", "7 zeros", "8 zeros", "1,000 zeros", "text", "PNG", "random", "ones"],
)
def test_what_is_no_checkpoint_at_all_is_refused(data):
    assert "not a checkpoint" in refusal(data)


class Payload:
    """Pickled, this is an instruction to create a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_is_never_opened(protocol, tmp_path):
    data = pickle.dumps(Payload(tmp_path / "hacked"), protocol=protocol)
    sentence = refusal(data)
    assert "pickle" in sentence or "not a checkpoint" in sentence
    assert not (tmp_path / "hacked").exists()
    pickle.loads(data)
    assert (tmp_path / "hacked").exists()  # the payload would have worked


@pytest.mark.parametrize("zipped", [True, False])
def test_a_torch_file_is_never_opened(zipped, tmp_path):
    file = BytesIO()
    weights = {"weights": torch.ones(3), "payload": Payload(tmp_path / "hacked")}
    torch.save(weights, file, _use_new_zipfile_serialization=zipped)
    assert "PyTorch or pickle" in refusal(file.getvalue())
    assert not (tmp_path / "hacked").exists()


def test_a_zip_file_is_refused():
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("checkpoint.json", "{}")
    assert "upload a .safetensors checkpoint" in refusal(file.getvalue())


def test_a_safetensors_file_of_another_program_is_refused(tiny_checkpoint, about):
    weights = tiny_checkpoint.weights
    foreign = [save_tensors(weights), save_tensors(weights, {"format": "pt"}), save_tensors({}, {"playground": "{}"})]
    foreign += [forged(entry, weights) for entry in (None, [], "x", 1, about | {"format": "transformer-playground-0"})]
    for data in foreign:
        assert "not saved by the playground" in refusal(data)


def test_a_file_cut_short_anywhere_is_refused(tiny_checkpoint):
    data = to_bytes(tiny_checkpoint)
    end_of_header = 8 + int.from_bytes(data[:8], "little")
    ends = {*range(0, len(data), 499), *range(20), end_of_header - 1, end_of_header, end_of_header + 1, len(data) - 1}
    for end in sorted(ends):
        refusal(data[:end])
    refusal(data + b"\x00")


@pytest.mark.parametrize("length", [0, 1, 2, 7, 2**16, 2**31, 2**63, 2**64 - 1])
def test_a_header_that_lies_about_its_length_is_refused(length, tiny_checkpoint):
    refusal(length.to_bytes(8, "little") + to_bytes(tiny_checkpoint)[8:])


@pytest.mark.parametrize("off_by", [-8, -1, 1, 8])
def test_a_header_that_is_a_little_longer_or_shorter_than_it_says_is_refused(off_by, tiny_checkpoint):
    data = to_bytes(tiny_checkpoint)
    length = int.from_bytes(data[:8], "little") + off_by
    refusal(length.to_bytes(8, "little") + data[8:])


@pytest.mark.parametrize("depth", [100, 900, 960, 990, 1_000, 100_000])
@pytest.mark.parametrize("brackets", ["[]", '{"a":}'])
def test_deeply_nested_json_is_refused(depth, brackets, about, tiny_checkpoint):
    nested = brackets[:-1] * depth + "0" + brackets[-1] * depth
    refusal(raw_file(nested.encode()))
    refusal(raw_file({"__metadata__": {"playground": nested}}))
    for entry in ("config", "tokenizer", "train_config", "history", "provenance", "val_loss"):
        text = json.dumps(about | {entry: "NESTED"}).replace('"NESTED"', nested)
        refusal(save_tensors(tiny_checkpoint.weights, {"playground": text}))


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b"null",
        b"[]",
        b"3",
        b'"text"',
        b"\xff\xfe{}",
        {"__metadata__": []},
        {"__metadata__": "text"},
        {"__metadata__": {"playground": 5}},
        {"__metadata__": {"playground": None}},
        {"__metadata__": {"playground": ["{}"]}},
        {"__metadata__": {"playground": "{"}},
        {"__metadata__": {"playground": "9" * 5000}},
    ],
    ids=repr,
)
def test_a_header_of_the_wrong_form_is_refused(header):
    refusal(raw_file(header))


# --- Weights ----------------------------------------------------------------------------------------------------------


def with_weights(checkpoint: Checkpoint, **weights: torch.Tensor) -> bytes:
    return forged(about_of(checkpoint), checkpoint.weights | weights)


def test_missing_weights_are_refused(tiny_checkpoint, about):
    for name in tiny_checkpoint.weights:
        rest = {other: weight for other, weight in tiny_checkpoint.weights.items() if other != name}
        assert repr(name) in refusal(forged(about, rest))
    refusal(forged(about, {}))


def test_extra_weights_are_refused(tiny_checkpoint):
    assert "'extra'" in refusal(with_weights(tiny_checkpoint, extra=torch.zeros(1)))
    refusal(with_weights(tiny_checkpoint, **{"h.2.attn.mask": torch.zeros(16, 16)}))
    refusal(with_weights(tiny_checkpoint, **{"long" * 1000: torch.zeros(1)}))


def test_weights_of_another_shape_are_refused(tiny_checkpoint):
    V, C = tiny_checkpoint.weights["wte.weight"].shape
    for shape in [(), (0,), (1,), (C,), (V - 1, C), (V + 1, C), (C, V), (1, V, C), (V * C,)]:
        sentence = refusal(with_weights(tiny_checkpoint, **{"wte.weight": torch.zeros(shape)}))
        assert f"wte.weight is {list(shape)} of" in sentence and f"not [{V}, {C}] of" in sentence


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int32", "bool", "complex64", "float8_e5m2"])
def test_weights_of_another_type_are_refused(dtype, tiny_checkpoint):
    weight = tiny_checkpoint.weights["ln_f.weight"].to(getattr(torch, dtype))
    sentence = refusal(with_weights(tiny_checkpoint, **{"ln_f.weight": weight}))
    assert "ln_f.weight is [16] of" in sentence and sentence.endswith("not [16] of 'F32'.")


@pytest.mark.parametrize("other", [{"shape": [8, 64]}, {"dtype": "I32"}, {"dtype": "F4", "shape": [32, 128]}], ids=repr)
@pytest.mark.parametrize("first", [True, False])
def test_two_entries_of_one_name_fool_nobody(first, other, tiny_checkpoint):
    """JSON may hold a name twice, and one reader may go by the first and another by the last."""
    header, body = header_of(to_bytes(tiny_checkpoint))
    entries = [(name, json.dumps(entry)) for name, entry in header.items()]
    forged_entry = ("wte.weight", json.dumps(header["wte.weight"] | other))
    entries = [forged_entry, *entries] if first else [*entries, forged_entry]
    text = ", ".join(f'"{name}": {entry}' for name, entry in entries)
    assert_sound_or_refused(raw_file(f"{{{text}}}".encode(), body))


@pytest.mark.parametrize(
    ("dtype", "shape", "n_bytes"),
    [
        ("F4", [8], 4),
        ("F6_E2M3", [4], 3),
        ("F8_E8M0", [2], 2),
        ("F32", [0, 2**63], 0),
        ("F32", [0, 2**64 - 1], 0),
        ("F32", [0, 2**40, 2**40], 0),
    ],
)
def test_tensors_that_torch_cannot_hold_are_refused(dtype, shape, n_bytes, tiny_checkpoint):
    """The safetensors format allows more than its reader for torch makes an error of its own of."""
    header, body = header_of(to_bytes(tiny_checkpoint))
    header["extra"] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + n_bytes]}
    refusal(raw_file(header, body + bytes(n_bytes)))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_refused(number, tiny_checkpoint):
    for name in tiny_checkpoint.weights:
        weight = tiny_checkpoint.weights[name].clone()
        weight.view(-1)[-1] = number
        assert f"{name} holds numbers that are not finite" in refusal(with_weights(tiny_checkpoint, **{name: weight}))


# --- Settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("n_head", 3),
        ("n_head", 0),
        ("n_layer", -1),
        ("n_layer", 10**6),
        ("n_layer", HUGE),
        ("n_embd", 16.0),
        ("n_embd", True),
        ("n_embd", "16"),
        ("n_embd", None),
        ("block_size", [16]),
        ("dropout", math.nan),
        ("dropout", HUGE),
        ("dropout", 1.0),
        ("bias", 0),
        ("position", "relative"),
        ("position", "relative " * 10_000),
        ("norm", None),
        ("norm", {}),
        ("activation", ["gelu"]),
    ],
    ids=shortly,
)
def test_an_impossible_model_is_refused(setting, value, about, forge):
    assert refusal(forge(config=about["config"] | {setting: value})).startswith(f"{setting}: ")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("max_iters", 0),
        ("max_iters", 1.5),
        ("max_iters", HUGE),
        ("batch_size", "8"),
        ("learning_rate", -1),
        ("learning_rate", math.inf),
        ("learning_rate", HUGE),
        ("min_lr", 9.0),
        ("optimizer", "sgd"),
        ("seed", -1),
        ("seed", None),
    ],
    ids=shortly,
)
def test_impossible_training_settings_are_refused(setting, value, about, forge):
    assert refusal(forge(train_config=about["train_config"] | {setting: value})).startswith(f"{setting}: ")


@pytest.mark.parametrize("entry", ["config", "train_config"])
def test_settings_must_be_exactly_those_there_are(entry, about, forge):
    missing = dict(list(about[entry].items())[1:])
    for settings_ in (None, [], "x", {}, missing, about[entry] | {"extra": 1}):
        assert "exactly these settings" in refusal(forge(**{entry: settings_}))


def test_entries_that_are_not_there_are_refused(about, tiny_checkpoint):
    for entry in about.keys() - {"name", "val_loss", "first_val_loss", "beginning"}:
        rest = {name: value for name, value in about.items() if name != entry}
        refusal(forged(rest, tiny_checkpoint.weights))


def test_the_tokenizer_must_fit_the_model(about, forge):
    V = about["config"]["vocab_size"]
    smaller = CharTokenizer.train("abc").to_dict()
    assert f"its tokenizer has 4 tokens, its model {V}" in refusal(forge(tokenizer=smaller))
    assert f"its tokenizer has {V} tokens, its model {V + 1}" in refusal(
        forge(config=about["config"] | {"vocab_size": V + 1})
    )


@pytest.mark.parametrize(
    "tokenizer", [None, [], {}, {"kind": "char"}, {"kind": "char", "chars": 5}, {"kind": "bpe", "merges": [[0, 999]]}]
)
def test_a_damaged_tokenizer_is_refused(tokenizer, forge):
    assert "tokenizer" in refusal(forge(tokenizer=tokenizer))


@pytest.fixture
def little_memory():
    """Half a gigabyte beyond what the process has now: an allocation above that is an error, not a slow machine."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("This system does not say how much memory a process has, so it cannot be limited.")
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + 2**29, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_a_forged_giant_costs_no_memory(about, forge, little_memory):
    """48 layers of 2,048 numbers are 10 GB: the file, of some kilobytes, is refused before they are asked for."""
    V = about["config"]["vocab_size"]
    giant = ModelConfig(vocab_size=V, n_embd=2_048, n_layer=48, n_head=64, block_size=2_048)
    assert giant.n_params * 4 > 9e9
    assert "do not belong to its configuration" in refusal(forge(config=asdict(giant)))
    flat = replace(giant, n_layer=2, block_size=16)  # the same names as in the file, 0.4 GB
    assert "do not fit its configuration" in refusal(forge(config=asdict(flat)))
    assert "does not fit together" in refusal(forge(config=asdict(replace(giant, vocab_size=65_536))))


# --- History and provenance -------------------------------------------------------------------------------------------

STEP = [1, 3.5, 0.1, 1.0, 0.5, 3.4, "the sample"]
TEXT = ["verses.txt", 1832, "ab" * 32]
BEGINNING = [3.5, "the sample", 1.5, "verses.txt"]


def with_entry(row: list, index: int, value: object) -> list:
    return [[*row[:index], value, *row[index + 1 :]]]


@pytest.mark.parametrize(
    "history",
    [
        None,
        "text",
        {},
        5,
        [None],
        [1],
        ["1234567"],
        [{}],
        [[]],
        [STEP[:4]],
        [[*STEP, 1, 1]],
        [STEP, [1]],
        with_entry(STEP, 0, 1.5),
        with_entry(STEP, 0, True),
        with_entry(STEP, 0, None),
        with_entry(STEP, 0, "1"),
        with_entry(STEP, 1, None),
        with_entry(STEP, 1, "3.5"),
        with_entry(STEP, 1, math.nan),
        with_entry(STEP, 1, HUGE),
        with_entry(STEP, 2, [0.1]),
        with_entry(STEP, 3, -math.inf),
        with_entry(STEP, 4, False),
        with_entry(STEP, 5, "3.4"),
        with_entry(STEP, 5, math.inf),
        with_entry(STEP, 6, 7),
        with_entry(STEP, 6, ["the sample"]),
        [[*STEP, "3.4"]],
        [[*STEP, math.nan]],
    ],
    ids=shortly,
)
def test_a_history_of_the_wrong_form_is_refused(history, forge):
    refusal(forge(history=history))


@pytest.mark.parametrize(
    "provenance",
    [
        None,
        "text",
        {},
        [TEXT[0]],
        [TEXT[:2]],
        [[*TEXT, "more"]],
        with_entry(TEXT, 0, None),
        with_entry(TEXT, 0, 5),
        with_entry(TEXT, 1, "1832"),
        with_entry(TEXT, 1, 1832.5),
        with_entry(TEXT, 1, HUGE),
        with_entry(TEXT, 2, None),
        with_entry(TEXT, 2, {}),
    ],
    ids=shortly,
)
def test_a_provenance_of_the_wrong_form_is_refused(provenance, forge):
    refusal(forge(provenance=provenance))


@pytest.mark.parametrize("name", ["val_loss", "first_val_loss"])
@pytest.mark.parametrize("val_loss", ["low", [], True, math.nan, math.inf, HUGE], ids=shortly)
def test_a_loss_of_the_wrong_form_is_refused(name, val_loss, forge):
    refusal(forge(**{name: val_loss}))


@pytest.mark.parametrize(
    "beginning",
    [
        None,
        "text",
        {},
        [None],
        [BEGINNING[:3]],
        [[*BEGINNING, 1]],
        with_entry(BEGINNING, 0, None),
        with_entry(BEGINNING, 0, math.nan),
        with_entry(BEGINNING, 1, 7),
        with_entry(BEGINNING, 2, "1.5"),
        with_entry(BEGINNING, 3, ["verses.txt"]),
    ],
    ids=shortly,
)
def test_a_beginning_of_the_wrong_form_is_refused(beginning, forge):
    refusal(forge(beginning=beginning))


def test_a_file_from_before_fine_tuning_was_watched_opens(about, tiny_checkpoint):
    """Its steps have seven entries, and it says nothing of a beginning."""
    rows = [row[:7] for row in about["history"]]
    old = {name: entry for name, entry in about.items() if name not in ("first_val_loss", "beginning")}
    assert_same(from_bytes(forged(old | {"history": rows}, tiny_checkpoint.weights)), tiny_checkpoint)


def test_the_rows_themselves_are_in_order(forge):
    """So it was what was wrong in the rows above that they were refused for."""
    loaded = from_bytes(forge(history=[STEP, [*STEP, 1.5]], provenance=[TEXT], val_loss=3, beginning=[BEGINNING]))
    assert loaded.step == 1 and loaded.history[0].sample == "the sample"
    assert [step.first_val_loss for step in loaded.history] == [None, 1.5]
    assert loaded.beginning == Beginning(*BEGINNING)
    assert loaded.provenance == (Provenance(*TEXT),) and loaded.val_loss == 3


@pytest.mark.parametrize(
    "entry",
    [
        {"history": with_entry(STEP, 6, "\ud800")},
        {"provenance": with_entry(TEXT, 0, "\ud800")},
        {"beginning": with_entry(BEGINNING, 3, "\ud800")},
    ],
)
def test_texts_in_a_file_are_fit_to_be_sent_to_a_page(entry, forge):
    """Half a surrogate pair can be written in JSON, but nothing that holds one can be sent as UTF-8."""
    try:
        loaded = from_bytes(forge(**entry))
    except BadInput:
        return
    (loaded.history[0].sample or "").encode()
    loaded.provenance[0].name.encode()
    (loaded.beginning.first_text if loaded.beginning else "").encode()


# --- Any damage at all ------------------------------------------------------------------------------------------------


def assert_sound_or_refused(data: bytes) -> None:
    """Either `BadInput`, or a checkpoint that can be used in every way."""
    try:
        checkpoint = from_bytes(data)
    except BadInput:
        return
    logits = checkpoint.model(torch.zeros(1, 2, dtype=torch.int64))
    assert logits.shape == (1, 2, checkpoint.tokenizer.vocab_size)
    checkpoint.tokenizer.decode(range(checkpoint.tokenizer.vocab_size))
    assert_same(from_bytes(to_bytes(checkpoint)), checkpoint)


@settings(deadline=None, max_examples=150)
@given(edits=st.data())
def test_changed_bytes_give_a_sound_checkpoint_or_a_refusal(edits, tiny_checkpoint):
    data = bytearray(to_bytes(tiny_checkpoint))
    end_of_header = 8 + int.from_bytes(data[:8], "little")
    places = st.one_of(st.integers(0, 16), st.integers(0, end_of_header), st.integers(0, len(data) - 1))
    for place, byte in edits.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=4)):
        data[place] = byte
    assert_sound_or_refused(bytes(data))


@settings(deadline=None, max_examples=100)
@given(edits=st.data())
def test_removed_and_inserted_bytes_give_a_sound_checkpoint_or_a_refusal(edits, tiny_checkpoint):
    data = to_bytes(tiny_checkpoint)
    start, end = sorted(edits.draw(st.tuples(*[st.integers(0, len(data))] * 2)))
    assert_sound_or_refused(data[:start] + edits.draw(st.binary(max_size=50)) + data[end:])


NUMBERS = st.sampled_from([HUGE, -(HUGE), 2**63, 1e308]) | st.integers() | st.floats()
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None, max_examples=150)
@given(edits=st.data())
def test_any_other_value_in_the_header_gives_a_sound_checkpoint_or_a_refusal(edits, about, tiny_checkpoint):
    changed = json.loads(json.dumps(about))
    place, key = changed, edits.draw(st.sampled_from(sorted(changed)))
    while isinstance(place[key], (dict, list)) and place[key] and edits.draw(st.booleans()):
        place = place[key]
        key = edits.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
    place[key] = edits.draw(JSON)
    assert_sound_or_refused(forged(changed, tiny_checkpoint.weights))
