"""GPT-2s as `transformers` makes and saves them: random, small, and with a tokenizer that is learned in a moment."""

import json
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

TEXT = """The miller's cat sat by the door; they'd said it'll rain, and it did: 1897 geese went by, 42 of them grey.
   "I'm in," said he.\t\tDer Gänserich schlief – 🙂 👩‍👩‍👧 و قال — 東京の猫 ½ Ⅻ naïve e\u0301 ____ !!!
"""
SHAPE = {"n_positions": 24, "n_embd": 16, "n_layer": 3, "n_head": 4}
N_TOKENS = 340


def learned_tokenizer(folder: Path) -> GPT2TokenizerFast:
    """A tokenizer from a vocab.json and a merges.txt, which it leaves in the folder; <|endoftext|> comes last."""
    learner = ByteLevelBPETokenizer()
    learner.train_from_iterator([TEXT] * 3, vocab_size=N_TOKENS - 1, show_progress=False)
    learner.save_model(str(folder))
    vocab = learner.get_vocab()
    (folder / "vocab.json").write_text(json.dumps(vocab | {"<|endoftext|>": len(vocab)}), encoding="utf-8")
    return GPT2TokenizerFast.from_pretrained(folder)


def random_gpt2(**settings: object) -> GPT2LMHeadModel:
    """A model in which every number counts: as it is initialised, biases and norms would do nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ends = {"bos_token_id": None, "eos_token_id": None}
        model = GPT2LMHeadModel(GPT2Config(**{"vocab_size": N_TOKENS, **SHAPE, **ends, **settings})).eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight.normal_(0.0, 0.3)
    return model


def save_gpt2(folder: Path, **settings: object) -> tuple[GPT2LMHeadModel, GPT2TokenizerFast]:
    """Saves a random GPT-2 with a learned tokenizer as `transformers` does: config, safetensors, tokenizer.json."""
    model, tokenizer = random_gpt2(**settings), learned_tokenizer(folder)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer
