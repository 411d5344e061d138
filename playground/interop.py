"""Folders in Hugging Face's format become checkpoints: what `export` wrote, and GPT-2s that were made elsewhere.

What was exported comes back as it was. GPT-2 (Radford et al. 2019) is this project's classic architecture, with the
same names. Three things differ in its files: matrices stand the other way round, the head is usually the embedding's
table, and bytes have signs of their own. The files may come from anyone: whatever the model here could not compute as
`transformers` does is refused, and no weight is read before all are known to fit.
"""

import json
import re
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from playground.checkpoint import MAX_HEADER, Checkpoint, clean_name, from_bytes, weight_shapes
from playground.config import ModelConfig, TrainConfig, quote
from playground.errors import BadInput
from playground.export import (
    CONFIG,
    MODEL,
    OWN,
    TOKENIZER,
    TOKENIZER_CONFIG,
    TRANSPOSED,
    byte_signs,
    shapes_there,
    weights_here,
)
from playground.tokenizer import MAX_ADDED, MAX_ENTRY_BYTES, GPT2Tokenizer, without_surrogates

TOKENIZER_PAIR, ADDED = ("vocab.json", "merges.txt"), "added_tokens.json"
WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")  # large models come in several files
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
MAX_TEXT_FILE = 8 * 2**20  # bytes; GPT-2's tokenizer.json has 1.4 MB
END_OF_TEXT = "<|endoftext|>"

# What `transformers` takes for the settings that a config.json leaves out.
DEFAULTS = {"vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12, "resid_pdrop": 0.1}
# Settings that change what is computed, with the values under which the model here computes the same.
COMPUTED_HERE = {
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}
NO_WEIGHTS = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")  # masks that older versions saved among the weights
FLOATS = ("F32", "F16", "BF16")
# What the model part of a tokenizer.json may have switched on, and GPT-2's has not.
NO_PART_OF_GPT2 = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges")


def open_folder(files: Iterable[Path], name: str) -> Checkpoint:
    """The model in some files, which are known by their names. Raises `BadInput` that says what is wrong with them.

    What was exported here has a name of its own; another model gets this one.
    """
    by_name = {file.name: file for file in files}
    needed = {file: by_name[file] for file in files_of_model(by_name)}
    return _open_own(needed) if OWN in needed else _open_gpt2(needed, name)


def _open_own(files: dict[str, Path]) -> Checkpoint:
    """What was exported: its weights are in one file, as `transformers` has them, and all else is in another."""
    return from_bytes(files[OWN].read_bytes(), lambda config: _own_weights(files[MODEL], config))


def _open_gpt2(needed: dict[str, Path], name: str) -> Checkpoint:
    config, tied = read_config(needed[CONFIG])
    tokenizer = _tokenizer(needed, config.vocab_size)
    weights = _weights([file for file in needed.values() if WEIGHTS.fullmatch(file.name)], config, tied)
    return Checkpoint(clean_name(name), config, tokenizer, weights, TrainConfig())


def files_of_model(names: Iterable[str]) -> list[str]:
    """Those of the names that it takes to open the model. Raises `BadInput` where one is missing."""
    names = set(names)
    if {OWN, MODEL} <= names:
        return [OWN, MODEL]
    if OWN in names:
        raise BadInput(f"The model's {MODEL} is missing: choose all files of the export together.")
    weights = [MODEL] if MODEL in names else sorted(filter(WEIGHTS.fullmatch, names))
    tokenizer = [TOKENIZER] if TOKENIZER in names else list(TOKENIZER_PAIR)
    if not weights and any(name.endswith(PICKLED) for name in names):
        raise BadInput(
            "These weights are a PyTorch or pickle file, which can run code when it is opened, so it is not: choose "
            "the model's model.safetensors."
        )
    for needed, there in {CONFIG: CONFIG in names, MODEL: weights}.items():
        if not there:
            raise BadInput(f"The GPT-2's {needed} is missing: choose all of its files together.")
    if not names.issuperset(tokenizer):
        raise BadInput(
            "The GPT-2's tokenizer is missing: choose its tokenizer.json, or vocab.json and merges.txt, as well."
        )
    return [CONFIG, *tokenizer, *sorted(names & {ADDED, TOKENIZER_CONFIG}), *weights]


def read_config(file: Path) -> tuple[ModelConfig, bool]:
    """The model that a config.json is of, and whether one table is both its embedding and its head.

    Raises `BadInput` for any that could not be computed here just as it is in `transformers`.
    """
    settings = _read_json(file)
    if not isinstance(settings, dict) or settings.get("model_type") != "gpt2":
        kind = quote(settings.get("model_type")) if isinstance(settings, dict) else "no"
        raise BadInput(f"This config.json is of {kind} model type: choose a model of the type gpt2.")
    given = DEFAULTS | settings
    config = ModelConfig(
        vocab_size=given["vocab_size"],
        block_size=given["n_positions"],
        n_layer=given["n_layer"],
        n_head=given["n_head"],
        n_embd=given["n_embd"],
        dropout=given["resid_pdrop"],
        bias=True,
        position="learned",
        norm="layernorm",
        activation="gelu",
        qk_norm=False,
    )
    for name, sentence in config.problems().items():
        raise BadInput(f"A GPT-2 like this cannot be opened here, choose another; {name}: {sentence}")
    for name, values in (COMPUTED_HERE | {"n_inner": (None, config.n_hidden)}).items():
        if given.get(name, values[0]) not in values:
            known = " or ".join(map(repr, values))
            raise BadInput(f"This GPT-2 has {name} {quote(given[name])}, and only {known} can be: choose another.")
    return config, bool(settings.get("tie_word_embeddings", True))


# --- Weights ----------------------------------------------------------------------------------------------------------


def _weights(files: list[Path], config: ModelConfig, tied: bool) -> dict[str, Tensor]:
    """A GPT-2's weights under the names, in the shapes and in the float32 that they have here."""
    with ExitStack() as stack:
        stored = {}  # by the name here: the open file, and the name there
        for file in files:
            opened = stack.enter_context(_open_weights(file))
            names = {there.removeprefix("transformer."): there for there in opened.keys()}  # noqa: SIM118 - no dict
            stored |= {name: (opened, there) for name, there in names.items() if not NO_WEIGHTS.fullmatch(name)}
        if tied:  # either name may be the one in the file
            head, table = stored.get("lm_head.weight"), stored.get("wte.weight")
            stored |= {"lm_head.weight": head or table, "wte.weight": table or head} if head or table else {}
        shapes = weight_shapes(config)
        _check_weights(stored, {n: shape[::-1] if TRANSPOSED.fullmatch(n) else shape for n, shape in shapes.items()})
        return {name: _read_weight(*stored[name], turned=bool(TRANSPOSED.fullmatch(name))) for name in shapes}


def _own_weights(file: Path, config: ModelConfig) -> dict[str, Tensor]:
    """The weights of a model that was exported here."""
    with _open_weights(file) as opened:
        stored = {name: (opened, name) for name in opened.keys()}  # noqa: SIM118 - no dict
        _check_weights(stored, shapes_there(config))
        return weights_here({name: _read_weight(*stored[name]) for name in stored}, config)


def _open_weights(file: Path) -> safe_open:
    """The file with its header read and checked, and none of its tensors."""
    try:
        with file.open("rb") as data:
            if int.from_bytes(data.read(8), "little") > MAX_HEADER:
                raise SafetensorError("its header is too large")
        return safe_open(file, "pt")
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{file.name} is no safetensors file, or damaged: download it again, then choose it.") from error


def _check_weights(stored: dict[str, tuple[safe_open, str]], shapes: dict[str, list[int]]) -> None:
    """Compares what the files say of their weights with the shapes that the model has there."""
    for name in sorted(set(stored) ^ set(shapes)):
        amiss = "lacks" if name in shapes else "has, which no model of these settings has,"
        raise BadInput(f"The model {amiss} the weight {quote(name)}: choose all files of one model together.")
    for name, (file, there) in stored.items():
        entry = file.get_slice(there)
        if entry.get_shape() != shapes[name] or entry.get_dtype() not in FLOATS:
            found = f"{quote(entry.get_shape())} of {entry.get_dtype()}"
            raise BadInput(
                f"The weight {name} is {found}, and by the model's settings it must be {shapes[name]} of "
                f"{', '.join(FLOATS)}: choose files that belong together."
            )


def _read_weight(file: safe_open, there: str, turned: bool = False) -> Tensor:
    """One weight, copied: what safetensors returns is a view of the file."""
    try:
        stored = file.get_tensor(there)
    except SafetensorError as error:
        raise BadInput("The weights are damaged: download them again, then choose them.") from error
    as_here = stored.T if turned else stored
    weight = as_here.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    if not weight.isfinite().all():
        raise BadInput(f"The weights are broken, {there} holds numbers that are not finite: download them again.")
    return weight


# --- Tokenizer --------------------------------------------------------------------------------------------------------


SIGN_BYTES = {sign: byte for byte, sign in enumerate(byte_signs())}


def _tokenizer(files: dict[str, Path], vocab_size: int) -> GPT2Tokenizer:
    vocab, merges, added = _from_one_file(files) if TOKENIZER in files else _from_two_files(files, vocab_size)
    tokens = vocab | added
    if TOKENIZER_CONFIG in files:
        _check_tokenizer_config(_read_json(files[TOKENIZER_CONFIG]), tokens)
    if len(added) > MAX_ADDED:
        raise _unusable(f"it adds more than {MAX_ADDED} tokens")
    if not all(type(id) is int and 0 <= id < vocab_size for id in tokens.values()):
        raise _unusable(f"not every token has a number below {vocab_size:,}, which is how many the model knows")
    if len(set(tokens.values())) < len(tokens) or any(vocab.get(token, id) != id for token, id in added.items()):
        raise _unusable("tokens and numbers do not go together one by one")
    entries = [b""] * vocab_size
    for token, id in tokens.items():
        entries[id] = _bytes(token) if token in vocab else token.encode()
    if max(map(len, entries)) > MAX_ENTRY_BYTES:
        raise _unusable(f"it has a token of more than {MAX_ENTRY_BYTES:,} bytes")
    try:
        byte_ids = [vocab[sign] for sign in byte_signs()]
        joined = {(vocab[left], vocab[right]): vocab[left + right] for left, right in map(_pair, merges)}
    except KeyError as error:
        raise _unusable(f"it has no token {quote(*error.args)}") from error
    if len(joined) < len(merges):
        raise _unusable("it has the same merge twice")
    return GPT2Tokenizer(entries, byte_ids, [(*pair, new) for pair, new in joined.items()], added)


def _from_two_files(files: dict[str, Path], vocab_size: int) -> tuple[dict[str, int], list, dict[str, int]]:
    """Vocabulary, merges and added tokens of a vocab.json and a merges.txt."""
    vocab = _read_json(files["vocab.json"])
    if not isinstance(vocab, dict):
        raise _unusable("its vocab.json is no list of tokens with their numbers")
    merges = _read_text(files["merges.txt"]).split("\n")
    end = vocab.get(END_OF_TEXT, len(vocab))  # as in `transformers`: the one token that the files need not name
    added = {} if end == vocab_size else {END_OF_TEXT: end}
    if ADDED in files:
        match _read_json(files[ADDED]):
            case dict(more) if all(more):
                added |= {without_surrogates(token): id for token, id in more.items()}
            case _:
                raise _unusable("its added_tokens.json is no list of tokens with their numbers")
    return vocab, [line for line in merges if line.strip() and not line.startswith("#version")], added


def _from_one_file(files: dict[str, Path]) -> tuple[dict[str, int], list, dict[str, int]]:
    """Vocabulary, merges and added tokens of a tokenizer.json, which must do with a text exactly what GPT-2's does."""
    match _read_json(files[TOKENIZER]):
        case {"model": {"vocab": dict(vocab), "merges": list(merges)} as model, "added_tokens": list(added)} as saved:
            pass
        case _:
            raise _unusable("it is not of byte pairs")
    if model.get("type", "BPE") != "BPE" or any(map(model.get, NO_PART_OF_GPT2)):
        raise _unusable("it joins tokens in another way")
    match saved.get("pre_tokenizer"):
        case {"type": "ByteLevel", "add_prefix_space": False, **others} if others.get("use_regex", True) is True:
            pass
        case _:
            raise _unusable("it cuts up a text in another way")
    match saved.get("normalizer"), saved.get("post_processor"):
        case None, None | {"type": "ByteLevel"}:
            pass
        case None, {"type": "TemplateProcessing", "special_tokens": specials} if not specials:
            pass
        case _:
            raise _unusable("it changes a text, or adds tokens to it")
    return vocab, merges, dict(map(_added, added))


def _check_tokenizer_config(settings: Any, tokens: dict[str, int]) -> None:
    """Raises `BadInput` for settings beside the tokenizer's own that change which ids a text gets."""
    settings = settings if isinstance(settings, dict) else {"add_prefix_space": True}
    extra = settings.get("extra_special_tokens") or []
    extra = list(extra.values()) if isinstance(extra, dict) else extra
    known = isinstance(extra, list) and all(isinstance(token, str) and token in tokens for token in extra)
    if settings.get("add_prefix_space") or not known:
        raise _unusable("its tokenizer_config.json puts a space before a text, or adds tokens")


def _added(token: Any) -> tuple[str, int]:
    match token:
        case {"content": str(text), "id": int(id), "lstrip": False, "rstrip": False, "single_word": False} if text:
            return without_surrogates(text), id
    raise _unusable(f"it adds a token in another way, {quote(token)}")


def _pair(merge: Any) -> tuple[str, str]:
    """The signs of the two tokens of a merge: older files have them as one text, with a space between."""
    match merge.split(" ") if isinstance(merge, str) else merge:
        case [str(left), str(right)] if left and right and _is_of_signs(left + right):
            return left, right
    raise _unusable(f"a merge is not of two tokens, {quote(merge)}")


def _bytes(token: str) -> bytes:
    """What a token stands for: the bytes of its signs or, if it is no token of such signs, its own text."""
    if _is_of_signs(token):
        return bytes(SIGN_BYTES[sign] for sign in token)
    return without_surrogates(token).encode()


def _is_of_signs(token: str) -> bool:
    return SIGN_BYTES.keys() >= set(token)


def _unusable(problem: str) -> BadInput:
    return BadInput(f"This tokenizer is not GPT-2's kind or is damaged, since {problem}: choose a GPT-2 with its own.")


# --- Files ------------------------------------------------------------------------------------------------------------


def _read_text(file: Path) -> str:
    """A text file with lines as on Unix."""
    try:
        if file.stat().st_size > MAX_TEXT_FILE:
            raise BadInput(f"{file.name} is larger than a GPT-2 would have it: choose another model.")
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file.name} cannot be read as text: download it again, then choose it.") from error


def _read_json(file: Path) -> Any:
    try:
        return json.loads(_read_text(file))
    except BadInput:
        raise
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{file.name} is no JSON, or damaged: download it again, then choose it.") from error
