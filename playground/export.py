"""A model made here becomes the files that Hugging Face's `transformers` opens by itself, with no code of ours.

Three of its classes compute just what some of our models do, and only the names and the shapes of weights differ:

    class            positions                   norm       activation   normalised q and k   biases
    GPT2LMHeadModel  learned, sinusoidal, none   LayerNorm  GELU, ReLU²  no                   with or without
    Qwen3ForCausalLM rotary                      RMSNorm    SwiGLU       yes                  without
    LlamaForCausalLM rotary                      RMSNorm    SwiGLU       no                   with or without

GPT-2 has a table of positions and biases in any case: where a model has none, zeros stand there, which add nothing.
What those files have no place for (training, history, data) lies beside them, so that `interop` reads it all back.
"""

import io
import json
import re
import zipfile
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor

from playground.card import LOSS_PICTURE, loss_picture, model_card
from playground.checkpoint import Checkpoint, all_but_weights, weight_shapes
from playground.config import N_BYTES, ModelConfig
from playground.errors import BadInput
from playground.model import sinusoidal_table
from playground.tokenizer import REPLACEMENT, SURROGATE, GPT2Tokenizer, LookupTokenizer, PairTokenizer, Tokenizer

CONFIG, MODEL = "config.json", "model.safetensors"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
OWN = "playground.safetensors"  # all of a checkpoint but its weights

# What each class can compute. Of two that are equally near to a model without one, the first is named.
CLASSES = {
    "GPT2LMHeadModel": {
        "position": ("learned", "sinusoidal", "none"),
        "norm": ("layernorm",),
        "activation": ("gelu", "relu2"),
        "qk_norm": (False,),
        "bias": (True, False),
    },
    "Qwen3ForCausalLM": {
        "position": ("rotary",),
        "norm": ("rmsnorm",),
        "activation": ("swiglu",),
        "qk_norm": (True,),
        "bias": (False,),
    },
    "LlamaForCausalLM": {
        "position": ("rotary",),
        "norm": ("rmsnorm",),
        "activation": ("swiglu",),
        "qk_norm": (False,),
        "bias": (True, False),
    },
}

# The settings as the Train tab calls them, and what they may be.
NAMES = {
    "position": "Positions",
    "norm": "Normalisation",
    "activation": "Activation",
    "qk_norm": "Normalise queries and keys",
    "bias": "Biases",
}
VALUES = {
    "layernorm": "LayerNorm",
    "rmsnorm": "RMSNorm",
    "gelu": "GELU",
    "relu2": "Squared ReLU",
    "swiglu": "SwiGLU",
    False: "off",
    True: "on",
}


def export_files(checkpoint: Checkpoint) -> dict[str, bytes]:
    """The files by their names. Raises `BadInput` for a model that none of the classes can compute."""
    config = checkpoint.config
    kind = class_of(config)
    return {
        CONFIG: _json(_model_settings(kind, config)),
        "generation_config.json": _json(_generation_settings(config)),
        MODEL: save_tensors(weights_there(checkpoint.weights, config), metadata={"format": "pt"}),
        TOKENIZER: _json(tokenizer_json(checkpoint.tokenizer)),
        TOKENIZER_CONFIG: _json(_tokenizer_settings(config)),
        OWN: all_but_weights(checkpoint),
        "README.md": model_card(checkpoint, kind).encode(),
    } | ({LOSS_PICTURE: loss_picture(checkpoint.history).encode()} if checkpoint.history else {})


def export_zip(checkpoint: Checkpoint, folder: str) -> bytes:
    """The same files in a folder of this name, as one ZIP archive. Weights do not get smaller, so nothing is packed."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as whole:
        for name, data in export_files(checkpoint).items():
            whole.writestr(zipfile.ZipInfo(f"{folder}/{name}"), data)
    return archive.getvalue()


def _json(content: dict) -> bytes:
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False).encode()


# --- Which class ------------------------------------------------------------------------------------------------------


def class_of(config: ModelConfig) -> str:
    """The class that computes what this model does. `BadInput` says which settings stand in the way of the nearest.

    >>> class_of(ModelConfig()), class_of(ModelConfig(qk_norm=False))
    ('Qwen3ForCausalLM', 'LlamaForCausalLM')
    """
    in_the_way = {
        kind: [name for name, fitting in can.items() if getattr(config, name) not in fitting]
        for kind, can in CLASSES.items()
    }
    nearest = min(in_the_way, key=lambda kind: len(in_the_way[kind]))
    if not in_the_way[nearest]:
        return nearest
    can = CLASSES[nearest]
    is_now = ", ".join(f"“{NAMES[name]}: {said(getattr(config, name))}”" for name in in_the_way[nearest])
    wanted = ", ".join(f"“{NAMES[name]}: {' or '.join(map(said, can[name]))}”" for name in in_the_way[nearest])
    raise BadInput(
        f"No class of Hugging Face's transformers computes what this model does with {is_now}: to export one, train "
        f"it with {wanted}."
    )


def said(value: str | bool) -> str:
    """A value of a setting as the Train tab calls it."""
    return VALUES.get(value) or value.capitalize()


# --- Settings ---------------------------------------------------------------------------------------------------------

NO_ENDS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}  # no token begins, ends or fills a text


def _model_settings(kind: str, config: ModelConfig) -> dict:
    """What goes into config.json. Whatever changes a number is named, also where it is what the class takes anyway."""
    both = {"architectures": [kind], "vocab_size": config.vocab_size, "tie_word_embeddings": False, "dtype": "float32"}
    own = _gpt2_settings(config) if kind == "GPT2LMHeadModel" else _llama_settings(kind, config)
    return both | own | NO_ENDS


def _gpt2_settings(config: ModelConfig) -> dict:
    return {
        "model_type": "gpt2",
        "n_positions": config.block_size,
        "n_embd": config.n_embd,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_inner": config.n_hidden,
        "activation_function": {"gelu": "gelu_new", "relu2": "relu2"}[config.activation],
        "layer_norm_epsilon": 1e-5,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
    }


def _llama_settings(kind: str, config: ModelConfig) -> dict:
    """Of Llama and of Qwen3, which is the same with normalised queries and keys."""
    of_llama = {"model_type": "llama", "mlp_bias": config.bias}
    return (of_llama if kind == "LlamaForCausalLM" else {"model_type": "qwen3"}) | {
        "max_position_embeddings": config.block_size,
        "hidden_size": config.n_embd,
        "intermediate_size": config.n_hidden,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_head,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 10_000.0,
        "attention_bias": config.bias,
        "attention_dropout": config.dropout,
    }


def _generation_settings(config: ModelConfig) -> dict:
    """As the Generate tab begins. A text ends with the context: beyond it, models of learned positions have none."""
    return {"do_sample": True, "temperature": 0.8, "top_k": 0, "max_length": config.block_size} | NO_ENDS


def _tokenizer_settings(config: ModelConfig) -> dict:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.block_size,
        "model_input_names": ["input_ids", "attention_mask"],  # older versions add one that no class here takes
        "clean_up_tokenization_spaces": False,
    }


# --- Weights ----------------------------------------------------------------------------------------------------------

TRANSPOSED = re.compile(r"h\.\d+\.(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight")  # of GPT-2's


@dataclass(frozen=True)
class Piece:
    """Where a weight of theirs is to be found: in which of ours, from which row to which, turned on its side or not."""

    here: str
    rows: tuple[int | None, int | None] = (None, None)
    turned: bool = False

    def of(self, weights: dict[str, Tensor]) -> Tensor:
        there = weights[self.here][slice(*self.rows)]
        return (there.T if self.turned else there).clone(memory_format=torch.contiguous_format)

    def shape(self, shapes: dict[str, list[int]]) -> list[int]:
        n_rows, *others = shapes[self.here]
        there = [len(range(n_rows)[slice(*self.rows)]), *others]
        return there[::-1] if self.turned else there


def pieces(config: ModelConfig) -> dict[str, Piece]:
    """For each weight's name there, its piece. Those of one weight of ours stand in the order of its rows."""
    return _gpt2_pieces(config) if class_of(config) == "GPT2LMHeadModel" else _llama_pieces(config)


def weights_there(weights: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The weights under the names and in the shapes that they have in `transformers`."""
    ours = weights | filled_in(config)
    return {there: piece.of(ours) for there, piece in pieces(config).items()}


def weights_here(stored: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The way back: what `weights_there` was given."""
    rows: dict[str, list[Tensor]] = {}
    for there, piece in pieces(config).items():
        rows.setdefault(piece.here, []).append(stored[there].T if piece.turned else stored[there])
    ours = {here: torch.cat(parts) for here, parts in rows.items()}
    for name, fixed in filled_in(config).items():
        # Zeros are zeros everywhere, sines differ a little from one processor to another.
        if (ours[name] - fixed).abs().max() > 1e-3 * fixed.abs().max():
            raise BadInput(f"The weights were changed since they were exported, {name} is amiss: export them again.")
    return {name: ours[name] for name in weight_shapes(config)}


def shapes_there(config: ModelConfig) -> dict[str, list[int]]:
    """The shapes of the weights by their names there."""
    shapes = weight_shapes(_as_gpt2(config) if class_of(config) == "GPT2LMHeadModel" else config)
    return {there: piece.shape(shapes) for there, piece in pieces(config).items()}


def filled_in(config: ModelConfig) -> dict[str, Tensor]:
    """Under our names, the weights that GPT-2 has and this model has not: fixed positions, or none; biases of zero."""
    if class_of(config) != "GPT2LMHeadModel":
        return {}
    shapes, own = weight_shapes(_as_gpt2(config)), weight_shapes(config)
    filled = {name: torch.zeros(shape) for name, shape in shapes.items() if name not in own}
    if config.position == "sinusoidal":
        filled["wpe.weight"] = sinusoidal_table(config.block_size, config.n_embd)
    return filled


def _as_gpt2(config: ModelConfig) -> ModelConfig:
    """With all that GPT-2 has."""
    return replace(config, position="learned", bias=True)


def _gpt2_pieces(config: ModelConfig) -> dict[str, Piece]:
    names = weight_shapes(_as_gpt2(config))
    return {
        name if name.startswith("lm_head") else f"transformer.{name}": Piece(
            name, turned=bool(TRANSPOSED.fullmatch(name))
        )
        for name in names
    }


def _llama_pieces(config: ModelConfig) -> dict[str, Piece]:
    found = {"model.embed_tokens.weight": Piece("wte.weight")}
    for i in range(config.n_layer):
        found |= _llama_layer(f"model.layers.{i}", f"h.{i}", config)
    return found | {"model.norm.weight": Piece("ln_f.weight"), "lm_head.weight": Piece("lm_head.weight")}


def _llama_layer(there: str, here: str, config: ModelConfig) -> dict[str, Piece]:
    C, H = config.n_embd, config.n_hidden
    found = {
        f"{there}.input_layernorm.weight": Piece(f"{here}.ln_1.weight"),
        f"{there}.post_attention_layernorm.weight": Piece(f"{here}.ln_2.weight"),
    }
    if config.qk_norm:
        found |= {f"{there}.self_attn.{x}_norm.weight": Piece(f"{here}.attn.{x}_norm.weight") for x in "qk"}
    for kind in ("weight", "bias") if config.bias else ("weight",):
        for i, x in enumerate("qkv"):  # one matrix (3C, C) here
            found[f"{there}.self_attn.{x}_proj.{kind}"] = Piece(f"{here}.attn.c_attn.{kind}", (i * C, (i + 1) * C))
        found |= {
            f"{there}.self_attn.o_proj.{kind}": Piece(f"{here}.attn.c_proj.{kind}"),
            f"{there}.mlp.gate_proj.{kind}": Piece(f"{here}.mlp.c_fc.{kind}", (0, H)),  # one matrix (2H, C) here
            f"{there}.mlp.up_proj.{kind}": Piece(f"{here}.mlp.c_fc.{kind}", (H, 2 * H)),
            f"{there}.mlp.down_proj.{kind}": Piece(f"{here}.mlp.c_proj.{kind}"),
        }
    return found


# --- Tokenizers -------------------------------------------------------------------------------------------------------

UNKNOWN = "<unk>"  # no single character, and no word: those are of letters or of punctuation, never of both


def tokenizer_json(tokenizer: Tokenizer) -> dict:
    """What goes into tokenizer.json: how a text is cut up, what becomes of the pieces, and the way back."""
    parts = _pairs(tokenizer) if isinstance(tokenizer, PairTokenizer) else _lookup(tokenizer)
    empty = {"truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "post_processor": None}
    return {"version": "1.0"} | empty | parts


def _lookup(tokenizer: LookupTokenizer) -> dict:
    """Of characters and words. The unknown is no special token: those are found in a text, and "<unk>" must not be."""
    vocab = {entry: id for id, entry in enumerate([*tokenizer.entries, UNKNOWN])}
    unknown = {"type": "Replace", "pattern": {"String": UNKNOWN}, "content": REPLACEMENT}
    return {
        "pre_tokenizer": _split(r"[\s\S]" if tokenizer.kind == "char" else chunk_pattern()),
        "decoder": {"type": "Sequence", "decoders": [unknown, {"type": "Fuse"}]},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": UNKNOWN},
    }


def _pairs(tokenizer: PairTokenizer) -> dict:
    """Of byte pairs. There a token is known by its bytes alone, and a merge by its two tokens.

    So no two may have the same bytes, which never happens in learning: the same bytes are joined in the same order.
    """
    added = tokenizer.added if isinstance(tokenizer, GPT2Tokenizer) else {}
    signs, names = byte_signs(), {}
    for id, entry in enumerate(tokenizer.vocab):
        if entry:  # an empty one is room for a token that there is not
            names[id] = "".join(signs[byte] for byte in entry)
    names |= {id: text for text, id in added.items()}
    vocab = {name: id for id, name in names.items()}
    merges = [(names[left], names[right]) for left, right in tokenizer.merges]
    if len(vocab) < len(names) or [vocab.get(left + right) for left, right in merges] != [*tokenizer.new_ids]:
        raise BadInput("Two tokens of this tokenizer have the same bytes, so it has no such form: train another model.")
    by_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    if isinstance(tokenizer, GPT2Tokenizer):
        cut = by_bytes | {"use_regex": True}
    else:
        cut = {"type": "Sequence", "pretokenizers": [_split(chunk_pattern()), by_bytes | {"use_regex": False}]}
    return {
        "added_tokens": [_added(text, id) for text, id in sorted(added.items(), key=lambda item: item[1])],
        "pre_tokenizer": cut,
        "decoder": by_bytes | {"use_regex": True},
        "model": {"type": "BPE", "vocab": vocab, "merges": [" ".join(merge) for merge in merges]},
    }


def _added(text: str, id: int) -> dict:
    whole = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return {"id": id, "content": text} | whole


def _split(pattern: str) -> dict:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def byte_signs() -> list[str]:
    """The characters that stand for the 256 bytes in the files: themselves where they are visible, else later ones.

    >>> byte_signs()[ord("a")], byte_signs()[ord(" ")]
    ('a', 'Ġ')
    """
    visible = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = [byte for byte in range(N_BYTES) if byte not in visible]
    signs = {byte: chr(byte) for byte in visible} | {byte: chr(N_BYTES + i) for i, byte in enumerate(others)}
    return [signs[byte] for byte in range(N_BYTES)]


@lru_cache
def chunk_pattern() -> str:
    r"""`tokenizer.CHUNK` for the library `tokenizers`, whose \w and \s are not Python's: all characters are named."""
    every = SURROGATE.sub(REPLACEMENT, "".join(map(chr, range(0x110000))))
    word, space = _ranges(r"\w+", every), _ranges(r"\s+", every)
    return rf" ?[{word}]{{1,32}}| ?[^{space}{word}]{{1,32}}|[{space}]{{1,32}}(?![^{space}])|[{space}]{{1,32}}"


def _ranges(kind: str, every: str) -> str:
    r"""The characters of a kind among all there are, as an expression's brackets hold them: `\x{30}-\x{39}…`."""
    spans = (match.span() for match in re.finditer(kind, every))
    return "".join(rf"\x{{{first:x}}}-\x{{{end - 1:x}}}" for first, end in spans)
