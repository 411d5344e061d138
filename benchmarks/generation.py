"""Writing text: ours beside `transformers` on the same weights, and beside a loop without a cache; the first token.

The model has the shape of the Small preset and random weights. What `transformers` gets is a Qwen3 with these weights,
which is the same model by another name, and its own `generate` with its cache. All write in turns, several times.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from statistics import median

import torch
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from benchmarks.row import Row, at_most, more_is_better
from playground.checkpoint import Checkpoint
from playground.config import PRESETS, ModelConfig
from playground.generation import Sampling, generate_ids, next_logits, next_token_probs, stream_generate
from playground.model import GPT
from playground.tokenizer import CharTokenizer

PROMPT_TOKENS = 64
NEW_TOKENS = 256
ROUNDS = 7
FIRST_TOKENS = 50  # how often the first token is waited for

SHAPE = PRESETS["small"].model
CHARS = CharTokenizer.train("".join(map(chr, range(ord("!"), ord("!") + SHAPE.vocab_size - 1))))
PROMPT = CHARS.decode([7 * i % (SHAPE.vocab_size - 1) for i in range(PROMPT_TOKENS)])
SAMPLING = Sampling()


def rows() -> Iterator[Row]:
    checkpoint = random_checkpoint(block_size=PROMPT_TOKENS + NEW_TOKENS)
    qwen = as_qwen(checkpoint.model)
    for n_threads in sorted({1, torch.get_num_threads()}):
        with threads(n_threads):
            yield beside_transformers(checkpoint, qwen, n_threads)
    with threads(1):  # as on the page
        for block_size in (SHAPE.block_size, 256):
            yield beside_no_cache(random_checkpoint(block_size).model)
        yield first_token(random_checkpoint(SHAPE.block_size))


def beside_transformers(checkpoint: Checkpoint, qwen: Qwen3ForCausalLM, n_threads: int) -> Row:
    ids = torch.tensor([CHARS.encode(PROMPT)])
    settings = {"do_sample": True, "top_k": 0, "use_cache": True, "attention_mask": torch.ones_like(ids)}

    def ours() -> None:
        assert len(list(stream_generate(checkpoint, PROMPT, NEW_TOKENS, SAMPLING, seed=0))) == NEW_TOKENS

    def theirs() -> None:
        text = qwen.generate(ids, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, **settings)
        assert text.shape == (1, PROMPT_TOKENS + NEW_TOKENS)

    our_rate, their_rate = tokens_per_second(ours, theirs)
    on = "1 thread" if n_threads == 1 else f"{n_threads} threads"
    what = f"writing {NEW_TOKENS} tokens on {on}, transformers with its cache"
    return more_is_better(what, "tokens/s", our_rate, their_rate, goal=5)


def beside_no_cache(model: GPT) -> Row:
    """Both go on from a prompt that fills the context."""
    block_size = model.config.block_size
    prompt = [i % SHAPE.vocab_size for i in range(block_size)]
    drawn = generate_ids(model, prompt, SAMPLING, seed=0)

    def ours() -> None:
        for _ in islice(drawn, NEW_TOKENS):
            pass

    def theirs() -> None:
        ids, generator = list(prompt), torch.Generator().manual_seed(0)
        for _ in range(NEW_TOKENS):
            probs = next_token_probs(next_logits(model, ids), SAMPLING)
            ids.append(int(torch.multinomial(probs, 1, generator=generator)))

    our_rate, their_rate = tokens_per_second(ours, theirs)
    what = f"writing beyond a full context of {block_size} tokens, a loop without a cache"
    return more_is_better(what, "tokens/s", our_rate, their_rate, goal=10)


def first_token(checkpoint: Checkpoint) -> Row:
    def wait() -> None:
        next(stream_generate(checkpoint, PROMPT, NEW_TOKENS, SAMPLING, seed=0))

    wait()
    milliseconds = 1_000 * median(seconds(wait) for _ in range(FIRST_TOKENS))
    return at_most(f"first token after a prompt of {PROMPT_TOKENS}", "ms", milliseconds, goal=20)


def tokens_per_second(ours: Callable[[], None], theirs: Callable[[], None]) -> tuple[float, float]:
    """Of each, the median of several rounds in turn; a first one, in which memory and threads are made, is left out."""
    rounds = [(seconds(ours), seconds(theirs)) for _ in range(1 + ROUNDS)][1:]
    our_rate, their_rate = (NEW_TOKENS / median(times) for times in zip(*rounds, strict=True))
    return our_rate, their_rate


def seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@contextmanager
def threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    yield
    torch.set_num_threads(before)


# ---- The model, ours and theirs --------------------------------------------------------------------------------------


def random_checkpoint(block_size: int) -> Checkpoint:
    """All matrices random, none zero as at the start of training, so that every layer counts."""
    config, generator = replace(SHAPE, block_size=block_size), torch.Generator().manual_seed(0)
    weights = GPT(config, generator).state_dict()
    for weight in weights.values():
        if weight.dim() == 2:
            weight.normal_(0.0, weight.size(1) ** -0.5, generator=generator)
    return Checkpoint("Random", config, CHARS, weights, PRESETS["small"].train)


@torch.inference_mode()
def as_qwen(model: GPT) -> Qwen3ForCausalLM:
    """The same model by another name: RMSNorm, normalised queries and keys, rotary positions, SwiGLU, no biases."""
    config: ModelConfig = model.config
    qwen = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=config.vocab_size,
            hidden_size=config.n_embd,
            intermediate_size=config.n_hidden,
            num_hidden_layers=config.n_layer,
            num_attention_heads=config.n_head,
            num_key_value_heads=config.n_head,
            head_dim=config.head_dim,
            max_position_embeddings=config.block_size,
            rms_norm_eps=1e-6,
            rope_theta=10_000.0,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=0,
        )
    ).eval()
    qwen.load_state_dict(qwen_weights(model))
    ids = torch.arange(config.block_size)[None] % config.vocab_size
    torch.testing.assert_close(qwen(ids).logits, model(ids), rtol=0, atol=1e-4)
    return qwen


def qwen_weights(model: GPT) -> dict[str, Tensor]:
    weights = {
        "model.embed_tokens.weight": model.wte.weight,
        "model.norm.weight": model.ln_f.weight,
        "lm_head.weight": model.lm_head.weight,
    }
    for i, block in enumerate(model.h):
        q, k, v = block.attn.c_attn.weight.chunk(3)
        gate, up = block.mlp.c_fc.weight.chunk(2)
        layer = {
            "input_layernorm": block.ln_1.weight,
            "self_attn.q_proj": q,
            "self_attn.k_proj": k,
            "self_attn.v_proj": v,
            "self_attn.q_norm": block.attn.q_norm.weight,
            "self_attn.k_norm": block.attn.k_norm.weight,
            "self_attn.o_proj": block.attn.c_proj.weight,
            "post_attention_layernorm": block.ln_2.weight,
            "mlp.gate_proj": gate,
            "mlp.up_proj": up,
            "mlp.down_proj": block.mlp.c_proj.weight,
        }
        weights |= {f"model.layers.{i}.{name}.weight": weight for name, weight in layer.items()}
    return weights
