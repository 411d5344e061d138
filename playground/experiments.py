"""What a part of a model is for, told by what becomes of it without that part: two twins learn, one of them broken.

Both begin with the same weights, see the same batches and take the same steps; one thing differs. An `Experiment` says
which: settings of its own for the broken twin, or a short function that takes a part out of its model. What decides is
measured on text that was held out, where both have to foresee the same.

All twins learn by the plain loss of `GPT`: the one written out in `fused.py` computes mask, norms and residual stream
by formula and would not notice that they are gone. Letters in the shape comments as in model.py.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from playground.config import ModelConfig, TrainConfig
from playground.corpora import BUILT_IN
from playground.corpus import Corpus, Text, built_in, get_batch, split
from playground.generation import Sampling, check_seed, draw, next_logits, next_token_probs
from playground.model import GPT, Block, Trace
from playground.optimizers import make_optimizers, set_rate
from playground.tokenizer import Tokenizer, train_tokenizer
from playground.training import get_lr

TEXT_CHARS = 160_000  # of a built-in corpus; the last tenth is held out
N_SUBWORDS = 512
SAMPLE_CHARS = 160
MODEL = ModelConfig(block_size=32, n_layer=2, n_head=4, n_embd=64)
TRAIN = TrainConfig(max_iters=100, batch_size=16, learning_rate=0.06, warmup_iters=5)

# ---- What an experiment is -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Twin:
    """One of the two: its settings, and what is done to its model before it learns."""

    name: str
    model: ModelConfig = MODEL
    train: TrainConfig = TRAIN
    tokenizer: str = "char"
    change: Callable[[GPT], None] | None = None


@dataclass(frozen=True, eq=False)
class Foreseen:
    """How well a twin foresees the text that was held out."""

    losses: Tensor  # (windows, T) nats
    tokens_per_char: float


@dataclass(frozen=True)
class Measure:
    """A figure of a twin; less is better."""

    title: str
    of: Callable[[Foreseen], float]


@dataclass(frozen=True)
class Experiment:
    """Two twins, the whole one first; a question to think about before, and what to notice after.

    The last of the measures decides which twin is better.
    """

    title: str
    question: str
    twins: tuple[Twin, Twin]
    notice: str
    measures: tuple[Measure, ...]
    corpus: str = "stories"
    prompt: str = "Once upon a time"  # from which both write on


@dataclass(frozen=True)
class Step:
    """A twin, 0 or 1, has taken a step. Its loss on the batch is not finite if the twin is lost, and ends."""

    twin: int
    step: int
    loss: float  # nats a token


@dataclass(frozen=True)
class Result:
    """What became of a twin: a figure for each measure, NaN if it was lost, and what it writes."""

    twin: int
    figures: tuple[float, ...]
    sample: str


LOSS = Measure("Loss on held-out text, nats a token", lambda seen: seen.losses.mean().item())
LAST_LOSS = Measure(
    "The same at the last place of each window, where no later token can be seen",
    lambda seen: seen.losses[:, -1].mean().item(),
)
BITS = Measure(
    "Bits per character of held-out text",
    lambda seen: seen.losses.mean().item() * seen.tokens_per_char / math.log(2),
)

# ---- How a model is broken -------------------------------------------------------------------------------------------


def without_mask(model: GPT) -> None:
    """Every token sees all others, the one that it has to predict among them."""
    for block in model.h:
        block.attn.mask.fill_(True)


class Overwriting(nn.Module):
    """A decoder layer whose parts overwrite the stream of vectors, where those of `Block` add to it."""

    def __init__(self, block: Block):
        super().__init__()
        self.ln_1, self.attn, self.ln_2, self.mlp = block.ln_1, block.attn, block.ln_2, block.mlp

    def forward(self, x: Tensor, trace: Trace | None = None) -> Tensor:
        x = self.attn(self.ln_1(x), trace)  # (B, T, C)
        return self.mlp(self.ln_2(x))


def without_residual(model: GPT) -> None:
    """Nothing goes past an attention or an MLP, only through it."""
    model.h = nn.ModuleList(map(Overwriting, model.h))


def without_norms(model: GPT) -> None:
    """Vectors, queries and keys keep whatever scale they have come to."""
    model.ln_f = nn.Identity()
    for block in model.h:
        block.ln_1 = block.ln_2 = nn.Identity()
        block.attn.q_norm = block.attn.k_norm = nn.Identity()


# ---- The experiments -------------------------------------------------------------------------------------------------

PATIENT = replace(TRAIN, max_iters=200)  # copying is learned late
DEEP = replace(MODEL, n_layer=4, n_embd=32)
FAST = replace(TRAIN, learning_rate=0.1)

EXPERIMENTS = {
    "no_mask": Experiment(
        "No causal mask",
        "Without the mask every token also sees those after it, the very ones that have to be predicted. Will the "
        "loss fall faster or more slowly? And what will such a model write?",
        (Twin("with the mask"), Twin("without it", change=without_mask)),
        "The loss without the mask collapses to almost nothing, yet little of the language was learned: each token "
        "looks at its neighbour on the right and copies the answer. When the model writes, there is no such "
        "neighbour, and what comes is nonsense. The second row of the table shows the same: where no later token is "
        "there to be seen, its loss is far above that of its twin. A low loss is worth something only if the answer "
        "was out of sight.",
        (LOSS, LAST_LOSS),
    ),
    "no_positions": Experiment(
        "No positions",
        "Attention itself does not know the order of what it looks at. What will a model write that sees which "
        "letters came before, but not where they stand?",
        (Twin("with positions"), Twin("without", model=replace(MODEL, position="none"))),
        "The loss without positions stays well above, and the text is a salad: letters that often go together, but "
        "few words. The model knows the last letter, since that is the token it thinks about, and it knows which "
        "others are there; but “tea”, “eat” and “ate” look almost the same to it. Only the mask still tells "
        "something of the order: a token sees those before it and no others.",
        (LOSS,),
    ),
    "one_head": Experiment(
        "One head against four",
        "One head of 64 numbers, or four of 16: the matrices are equally large. On lines of random letters that are "
        "said three times, is it better to look once with all numbers, or four times with a quarter of them?",
        (Twin("four heads", train=PATIENT), Twin("one head", train=PATIENT, model=replace(MODEL, n_head=1))),
        "Four heads are ahead. Nobody can guess random letters, so the loss falls only as the model learns to copy: "
        "it has to find where the last letters stood before, and see what came next. A head can look at several "
        "letters at once, but it brings back a single mixture of them. Four heads bring back four, and the layer "
        "after them can tell these apart. To copy whole words both would need more steps, as the samples show.",
        (LOSS,),
        corpus="repeats",
        prompt="kqmzu kqmzu ",
    ),
    "high_rate": Experiment(
        "Learning rate times 100",
        "The learning rate is the length of a step. Are steps 100 times as long 100 times as fast?",
        (Twin("as usual"), Twin("times 100", train=replace(TRAIN, learning_rate=100 * TRAIN.learning_rate))),
        "The loss leaps far above where it began, and it began where every character was about equally likely. The "
        "gradient says which way is down from here, not how far down it goes: such long steps jump across every "
        "valley and land high on the other side. The rate falls to zero towards the end, and the loss comes down "
        "with it, but what is left has learned next to nothing. On another model the numbers might leave what a "
        "computer can hold; then the twin would end at that step.",
        (LOSS,),
    ),
    "no_residual": Experiment(
        "No residual connection",
        "In a decoder layer, attention and MLP add to what comes in. What if they overwrite it instead?",
        (Twin("with it", model=DEEP), Twin("without", model=DEEP, change=without_residual)),
        "Without the connection the model hardly gets beyond knowing which letters are frequent. What a token is has "
        "to come through every attention and every MLP, eight parts one after the other, and at first each of them "
        "mixes it with noise; the gradient has to find its way back through the same eight. With the connection both "
        "have a free way, and every part only needs to learn what to add.",
        (LOSS,),
    ),
    "no_norm": Experiment(
        "No normalisation",
        "The norms bring every vector back to one scale before it is worked on. Both twins learn with long steps, at "
        f"a rate of {FAST.learning_rate}. What happens to the one whose vectors can become as long as they like?",
        (Twin("with norms", train=FAST), Twin("without", train=FAST, change=without_norms)),
        "The loss without norms leaps up. Every part multiplies what comes in by its weights, and the SwiGLU in the "
        "MLP multiplies two such products by each other: when long steps make the weights a little larger, the "
        "vectors can become much longer, and the logits shoot far beyond what is sensible. The norms break this "
        "chain, and the same steps do no harm. At a third of this rate a model as small as this learns about as well "
        "without them. What norms give is room: for higher rates, and for more layers.",
        (LOSS,),
    ),
    "tiny_context": Experiment(
        "A tiny context",
        "One twin sees up to 32 characters, the other up to 4. When will one notice the difference?",
        (Twin("32 tokens"), Twin("4 tokens", model=replace(MODEL, block_size=4))),
        "At first both fall alike: which letters are frequent, and which follow each other, can be learned from the "
        "last few. Then the curves part. Whoever sees 4 characters cannot know how a longer word began, let alone "
        "the sentence, however long it trains: what is not in the context does not exist for the model. Both were "
        "measured on the very same characters. After so few steps the samples hardly show it yet; the loss does.",
        (LOSS,),
    ),
    "characters": Experiment(
        "Characters against subwords",
        f"One twin reads characters, the other {N_SUBWORDS} byte-pair subwords, some as long as a word. Which will "
        "have the lower loss, and which of them foresees the text better?",
        (Twin("subwords", tokenizer="bpe"), Twin("characters")),
        "The loss of the characters is lower and says nothing: it is a loss per token, and to choose one of a few "
        "characters is easier than one of hundreds of subwords. But a subword stands for more than two characters on "
        "average. Per character, the measure that both share, the subwords need fewer bits. One reason is that they "
        "see further: as many tokens are more text, in the context as well as in each batch.",
        (LOSS, BITS),
    ),
}


def setting(experiment: Experiment) -> str:
    """What the first twin learns from, and how; the other differs in the one thing."""
    (twin, _), text = experiment.twins, BUILT_IN[experiment.corpus].title
    model, train = twin.model, twin.train
    return (
        f"“{text}”, {TEXT_CHARS:,} characters of it. {model.n_layer} layers, {model.n_head} heads, {model.n_embd} "
        f"numbers a token, a context of {model.block_size} tokens. {train.max_iters} steps of {train.batch_size} × "
        f"{model.block_size} tokens, learning rate {train.learning_rate:g}."
    )


# ---- Running one -----------------------------------------------------------------------------------------------------


def run(experiment: Experiment, seed: int) -> Iterator[Step | Result]:
    """Both twins in turn, step by step, and at the end what became of each. Raises `BadInput` for a wrong seed."""
    check_seed(seed)
    return _run(experiment, int(seed))


def _run(experiment: Experiment, seed: int) -> Iterator[Step | Result]:
    learners = [Learner(experiment, twin, seed) for twin in experiment.twins]
    begin_alike(*(learner.model for learner in learners))
    for step in range(1, experiment.twins[0].train.max_iters + 1):
        for i, learner in enumerate(learners):
            if not learner.lost:
                yield Step(i, step, learner.step())
    for i, learner in enumerate(learners):
        yield Result(i, *learner.result(experiment))


class Learner:
    """A twin that learns: its model, its optimizers, and the random numbers by which its batches are drawn."""

    def __init__(self, experiment: Experiment, twin: Twin, seed: int):
        self.tokenizer, self.corpus = material(experiment.corpus, twin.tokenizer)
        self.window = experiment.twins[0].model.block_size
        self.train = replace(twin.train, seed=seed)
        self.model = new_model(replace(twin.model, vocab_size=self.tokenizer.vocab_size), seed)
        if twin.change:
            twin.change(self.model)
        self.optimizers = make_optimizers(self.model, self.train)
        self.data_rng = torch.Generator().manual_seed(seed)
        self.n_steps, self.lost = 0, False

    def step(self) -> float:
        """One optimisation step; returns the loss of its batch. A loss that is not finite moves nothing any more."""
        x, y = get_batch(self.corpus.train, self.train.batch_size, self.window, self.data_rng)
        loss = self.model.loss(self.rows(x), self.rows(y))
        self.n_steps, self.lost = self.n_steps + 1, not loss.isfinite().item()
        if not self.lost:
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.train.grad_clip)
            self._move()
        return loss.item()

    def _move(self) -> None:
        set_rate(self.optimizers, get_lr(self.n_steps, self.train))
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()

    def rows(self, ids: Tensor) -> Tensor:
        """Windows (B, T) as this model sees them: cut into shorter ones for one with a shorter context."""
        return ids.reshape(-1, self.model.config.block_size)

    def result(self, experiment: Experiment) -> tuple[tuple[float, ...], str]:
        """The figures and a sample; of a twin that is lost, no numbers and no text."""
        seen = self.foresee()
        if self.lost or not seen.losses.isfinite().all():
            return (math.nan,) * len(experiment.measures), ""
        figures = tuple(measure.of(seen) for measure in experiment.measures)
        return figures, write(self.model, self.tokenizer, experiment.prompt)

    @torch.inference_mode()
    def foresee(self) -> Foreseen:
        """The losses on all held-out tokens that fill a window; the same ones, however the model cuts them."""
        val = self.corpus.val
        n = (len(val) - 1) // self.window * self.window
        x, y = self.rows(val[:n]), self.rows(val[1 : n + 1])
        losses = F.cross_entropy(self.model(x).flatten(0, 1), y.flatten(), reduction="none").view_as(y)
        return Foreseen(losses, (len(val) - 1) / self.corpus.val_chars)


@torch.no_grad()
def new_model(config: ModelConfig, seed: int) -> GPT:
    """Random weights, also in what writes to the residual stream, as in GPT-2.

    `GPT` begins with zeros there, so that each layer starts by adding nothing. But where a layer does not add, nothing
    would come out of it, and no gradient would ever reach a weight: without the residual connection a model could not
    begin to learn, which would be unfair. So all twins begin like this, the whole ones too.
    """
    generator = torch.Generator().manual_seed(seed)
    model = GPT(config, generator)
    for name, weight in model.named_parameters():
        if name.endswith("c_proj.weight"):
            weight.normal_(0.0, (2 * config.n_layer * weight.size(1)) ** -0.5, generator=generator)
    return model


@torch.no_grad()
def begin_alike(whole: GPT, broken: GPT) -> None:
    """Gives the second model the weights of the first wherever it has the same; only tables of tokens differ in
    size.
    """
    weights = dict(whole.named_parameters())
    for name, weight in broken.named_parameters():
        if weight.shape == weights[name].shape:
            weight.copy_(weights[name])


@lru_cache(maxsize=4)
def material(name: str, kind: str) -> tuple[Tokenizer, Corpus]:
    """The beginning of a built-in corpus in the tokens of a tokenizer that learned from its training part."""
    whole = built_in(name)
    text = Text(whole.name, whole.text[:TEXT_CHARS])
    tokenizer = train_tokenizer(kind, split(text.text)[0], N_SUBWORDS)
    return tokenizer, Corpus.build(text, tokenizer, MODEL.block_size)


def write(model: GPT, tokenizer: Tokenizer, prompt: str) -> str:
    """How a model goes on from a prompt. It is asked as it is, since `Reader` knows mask and norms by formula."""
    ids, generator = tokenizer.encode(prompt), torch.Generator().manual_seed(0)
    n_given, text = len(ids), ""
    while len(text) < SAMPLE_CHARS:
        ids.append(draw(next_token_probs(next_logits(model, ids), Sampling(temperature=0.8)), generator))
        text = tokenizer.decode(ids[n_given:])
    return text[:SAMPLE_CHARS]
