"""Settings: what is refused and why, and the counts of parameters, memory and work against what really happens."""

import doctest
import gc
import math
import re
from dataclasses import asdict, fields, replace

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from playground import config as config_module
from playground import fused
from playground.config import (
    PRESETS,
    RUN_BYTES,
    ModelConfig,
    TrainConfig,
    for_fine_tuning,
    memory_bytes,
    step_flops,
)
from playground.errors import BadInput
from playground.model import GPT

every_preset = pytest.mark.parametrize("recipe", PRESETS.values(), ids=PRESETS)

# --- What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("vocab_size", 2, 65_536),
        ("block_size", 4, 2_048),
        ("n_layer", 1, 48),
        ("n_head", 1, 64),
        ("n_embd", 4, 2_048),
        ("dropout", 0.0, 0.9),
    ],
)
def test_the_model_settings_end_where_they_should(name, low, high):
    config = ModelConfig(n_head=1) if name == "n_embd" else ModelConfig()  # so that every size can be cut into heads
    for value in (low, high):
        assert replace(config, **{name: value}).problems() == {}
    for value in (low - 1, high + 1):
        assert list(replace(config, **{name: value}).problems()) == [name]


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("max_iters", 1, 100_000),
        ("batch_size", 1, 512),
        ("learning_rate", 1e-6, 10.0),
        ("warmup_iters", 0, 100_000),
        ("weight_decay", 0.0, 1.0),
        ("grad_clip", 0.0, 100.0),
        ("eval_interval", 1, 100_000),
        ("seed", 0, 2**32 - 1),
    ],
)
def test_the_training_settings_end_where_they_should(name, low, high):
    for value in (low, high):
        assert replace(TrainConfig(), **{name: value}).problems() == {}
    for value in (low - 1, high + 1):
        assert list(replace(TrainConfig(), **{name: value}).problems()) == [name]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_layer", True),
        ("n_layer", 2.0),
        ("n_layer", "2"),
        ("n_layer", None),
        ("n_layer", math.nan),
        pytest.param("n_layer", 10**400, id="too large for a float"),
        ("dropout", math.nan),
        ("dropout", math.inf),
        ("dropout", "0.1"),
        ("dropout", False),
        ("bias", 1),
        ("bias", "yes"),
        ("position", "Rotary"),
        ("position", None),
        ("norm", ["rmsnorm"]),
        ("activation", ""),
        ("qk_norm", 0),
    ],
)
def test_a_wrong_type_or_choice_is_told_at_its_setting(name, value):
    config = replace(ModelConfig(), **{name: value})
    assert list(config.problems()) == [name]
    with pytest.raises(BadInput, match=f"^{name}: "):
        config.validate()


def test_several_problems_are_told_at_once():
    assert set(ModelConfig(n_layer=0, dropout=2.0, norm="batchnorm").problems()) == {"n_layer", "dropout", "norm"}


def test_whole_numbers_do_for_settings_with_a_point():
    TrainConfig(learning_rate=1, weight_decay=0).validate()


def test_an_embedding_must_divide_into_heads_and_the_advice_does():
    for n_embd in (4, 30, 97, 128, 130, 1009, 2048):
        for n_head in range(1, 65):
            problems = ModelConfig(n_embd=n_embd, n_head=n_head, position="none").problems()
            if n_embd % n_head == 0:
                assert problems == {}
            else:
                assert list(problems) == ["n_head"]
                advised = [int(n) for n in re.findall(r"\d+", problems["n_head"].split("choose")[1])]
                assert advised and all(n_embd % n == 0 and 1 <= n <= 64 for n in advised)


def test_the_advice_is_the_nearest_numbers_of_heads():
    assert "choose 4 or 8." in ModelConfig(n_embd=128, n_head=6).problems()["n_head"]
    assert "choose 1." in ModelConfig(n_embd=97, n_head=2).problems()["n_head"]  # 97 is prime, and above 64


def test_positions_that_come_in_pairs_refuse_odd_sizes():
    odd_head = ModelConfig(n_embd=12, n_head=4)
    assert odd_head.head_dim == 3
    assert list(replace(odd_head, position="rotary").problems()) == ["position"]
    assert replace(odd_head, position="sinusoidal").problems() == {}
    odd_embedding = ModelConfig(n_embd=9, n_head=3)
    assert list(replace(odd_embedding, position="sinusoidal").problems()) == ["position"]
    assert replace(odd_embedding, position="learned").problems() == {}


def test_the_last_learning_rate_may_not_be_above_the_first():
    assert list(TrainConfig(learning_rate=0.01, min_lr=0.02).problems()) == ["min_lr"]
    TrainConfig(learning_rate=0.01, min_lr=0.01).validate()


def test_a_model_is_not_built_from_bad_settings():
    with pytest.raises(BadInput, match="n_head"):
        GPT(ModelConfig(n_embd=128, n_head=3))


# --- Settings from a file ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [ModelConfig(n_layer=3, bias=True), TrainConfig(max_iters=7, optimizer="adam")])
def test_settings_come_back_from_a_dict(settings):
    assert type(settings).from_dict(asdict(settings)) == settings


@pytest.mark.parametrize("cls", [ModelConfig, TrainConfig])
def test_a_strangers_settings_are_refused_in_one_sentence(cls):
    good = asdict(cls())
    missing = {name: value for name, value in good.items() if name != fields(cls)[0].name}
    extra = {**good, "__class__": "x"}
    for values in (None, [], "x", {}, missing, extra):
        with pytest.raises(BadInput, match="must hold exactly these settings"):
            cls.from_dict(values)
    with pytest.raises(BadInput, match="not a whole number"):
        cls.from_dict({**good, fields(cls)[0].name: "12"})


# --- Presets ----------------------------------------------------------------------------------------------------------


@every_preset
def test_a_preset_is_free_of_problems(recipe):
    assert recipe.model.problems() == {} and recipe.train.problems() == {}


def test_the_presets_are_what_their_names_promise():
    assert list(PRESETS) == ["tiny", "small", "medium", "best", "classic", "modern"]
    classic, modern = PRESETS["classic"].model, PRESETS["modern"].model
    assert (classic.position, classic.norm, classic.activation, classic.bias) == ("learned", "layernorm", "gelu", True)
    assert (modern.position, modern.norm, modern.activation, modern.bias) == ("rotary", "rmsnorm", "swiglu", False)


# --- Counts -----------------------------------------------------------------------------------------------------------


def test_the_parameters_of_gpt2_are_those_that_are_known():
    # The smallest GPT-2 has 124,439,808 parameters with the head tied to the embedding; ours is not tied.
    gpt2 = ModelConfig(
        vocab_size=50_257,
        block_size=1_024,
        n_layer=12,
        n_head=12,
        n_embd=768,
        bias=True,
        position="learned",
        norm="layernorm",
        activation="gelu",
        qk_norm=False,
    )
    assert gpt2.n_params == 124_439_808 + 50_257 * 768


def test_swiglu_is_about_as_large_as_the_others():
    # 8/3 of 192 is 512, already a multiple of 32: three matrices of 192 x 512 are two of 192 x 768.
    swiglu = ModelConfig(n_embd=192, n_head=6, activation="swiglu")
    assert swiglu.n_hidden == 512
    assert swiglu.n_params == replace(swiglu, activation="gelu").n_params
    assert ModelConfig(n_embd=128, activation="swiglu").n_hidden == 352  # 341.3, rounded up


def storages() -> dict[int, int]:
    """Every piece of memory that tensors are alive in, and its bytes."""
    gc.collect()
    alive = [thing.untyped_storage() for thing in gc.get_objects() if type(thing) in (torch.Tensor, nn.Parameter)]
    return {storage.data_ptr(): storage.nbytes() for storage in alive}


def activation_bytes(model: GPT, idx: torch.Tensor) -> int:
    """What a forward pass keeps for the backward pass: all memory that was not there before, autograd's included."""
    before, kept = storages(), []
    with saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        loss = fused.fused_loss(model, idx, idx, torch.bfloat16)
    assert loss.requires_grad and kept
    after = storages()
    return sum(n_bytes for place, n_bytes in after.items() if place not in before)


# Attention scores, T for each head and token, are most of what a wide context takes.
WIDE = ModelConfig(n_layer=2, n_head=8, n_embd=64, block_size=256, dropout=0.1), TrainConfig(batch_size=4)


@pytest.mark.parametrize(
    ("model_config", "train_config"),
    [*((recipe.model, recipe.train) for recipe in PRESETS.values()), WIDE],
    ids=[*PRESETS, "wide context"],
)
def test_the_memory_is_about_what_a_step_takes(model_config, train_config):
    model = GPT(model_config)
    idx = torch.zeros(train_config.batch_size, model_config.block_size, dtype=torch.long)
    n_moments = 1 if train_config.optimizer == "muon" else 2
    states = (4 + n_moments) * 4 * model_config.n_params  # float32: weights, gradients, moments; the last good, twice
    true = states + activation_bytes(model, idx)
    assert 0.75 * true < memory_bytes(model_config, train_config) - RUN_BYTES < 1.5 * true


@every_preset
def test_the_work_of_a_step_is_what_torch_counts(recipe):
    model = GPT(recipe.model)
    idx = torch.zeros(recipe.train.batch_size, recipe.model.block_size, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model.loss(idx, idx).backward()
    assert step_flops(recipe.model, recipe.train) == pytest.approx(counter.get_total_flops(), rel=0.03)


# --- Fine-tuning ------------------------------------------------------------------------------------------------------


def test_the_examples_in_the_docstrings_hold():
    results = doctest.testmod(config_module)
    assert results.attempted and not results.failed


@every_preset
@pytest.mark.parametrize("max_iters", [1, 9, 60, 100_000])
def test_fine_tuning_takes_smaller_steps_and_looks_often_enough(recipe, max_iters):
    train = replace(recipe.train, max_iters=max_iters)
    tuning = for_fine_tuning(train)
    assert tuning.problems() == {}
    assert [tuning.learning_rate, tuning.min_lr] == pytest.approx([train.learning_rate / 10, train.min_lr / 10])
    assert len(str(tuning.learning_rate)) <= 6  # as a person would write it
    assert tuning.eval_interval <= train.eval_interval
    assert max_iters // tuning.eval_interval >= min(max_iters, 10)
    own = {name: getattr(train, name) for name in ("learning_rate", "min_lr", "eval_interval")}
    assert replace(tuning, **own) == train  # all else stays
