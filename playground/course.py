"""The words of the course: ten sections, from what a language model does to how it learns, and one glossary.

In the paragraphs [[term]] stands for a term of the glossary, [[term|words]] for one that reads otherwise there, and
`name` for a name of the code. `pieces` takes a paragraph apart, for a page as for a notebook.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

MARKUP = re.compile(r"\[\[(?P<term>[^]|]+)(?:\|(?P<shown>[^]]+))?\]\]|`(?P<code>[^`]+)`")


@dataclass(frozen=True)
class Section:
    """One idea. `slug` names it in addresses; `experiments` are the names of what answers the question."""

    slug: str
    title: str
    paragraphs: tuple[str, ...]
    question: str
    experiments: tuple[str, ...]
    on_the_page: str = ""  # about what stands below on the page, and nowhere else


class Piece(NamedTuple):
    """Some words of a paragraph, with the term of the glossary that they stand for, if any."""

    text: str
    kind: str = "text"  # or "code", or "term"
    term: str = ""


SECTIONS = (
    Section(
        "introduction",
        "Introduction",
        (
            "A language model does one thing. It reads the beginning of a text and gives a probability to every "
            "[[token]] that could come next. Writing is that again and again: draw a token from these probabilities, "
            "put it at the end of the text, and ask anew.",
            "A [[transformer]] is a function with many numbers inside, its [[weights]]. Tokens go in as ids, pass "
            "through a stack of layers that are all built alike, and come out as one score for every token of the "
            "[[vocabulary]], at every place of the text. Sections 2 to 9 go the whole way, part by part; section 10 "
            "says where the weights come from. It is a decoder-only transformer: what it says at a place depends on "
            "what stands before, never on what comes after.",
        ),
        "How much of what it says comes from the words before the last one?",
        ("last_token",),
        "What you see is computed by the model in use, most of it for the sentence above. Change the sentence, or "
        "train a model of your own and come back: the numbers change, the code stays. A dot · in a token is a space.",
    ),
    Section(
        "tokenizer",
        "Tokenizer",
        (
            "A model computes with numbers, so a text is cut into [[token|tokens]] and each is replaced by its id, its "
            "place in the [[vocabulary]]. The model never sees inside a token: to it an id is a name without letters.",
            "There are three ways to cut here. Characters need the smallest vocabulary and make the longest rows. "
            "Words make short rows, but a word that did not stand in the training text is unknown. [[Byte-pair "
            "encoding]] is between the two: it begins with single bytes, joins the pair that stands most often side by "
            "side into a new token, and goes on until the vocabulary is full. Common words become one token, rare ones "
            "several, and no text is unknown.",
            "The choice is a trade. With short rows the same [[context length]] reaches further back. With a large "
            "vocabulary the tables at both ends of the model grow, and each token is seen less often. A loss per token "
            "cannot be compared between two tokenizers, since their tokens are not equally long; [[bits per "
            "character]] can.",
        ),
        "Does a model of subwords foresee the same text better than a model of characters?",
        ("characters",),
    ),
    Section(
        "embedding",
        "Embedding layer",
        (
            "The first layer is a table with one row for every token of the vocabulary. An id picks its row: a vector "
            "of `n_embd` numbers, the token's [[embedding]]. Nothing is computed, and that two ids are close means "
            "nothing.",
            "Before training the rows are random, so no two of them have much in common. Every step of training moves "
            "the rows of the tokens that were in its batch. Tokens after which the same things come are of the same "
            "use to the model, so their rows tend to turn in the same direction. [[Cosine similarity]] measures that.",
        ),
        "Has the table learned which tokens are alike?",
        ("neighbours",),
        "The picture is the table seen from its two most telling sides, its [[principal components]]. Much of the "
        "distance is lost on the way, so before you believe that two tokens are close, look at the neighbours: they "
        "are found in all dimensions.",
    ),
    Section(
        "positions",
        "Positional encoding",
        (
            "[[Attention]] by itself is blind to order: it adds up what it sees, and a sum does not depend on the "
            "order of its terms. Where each token stands has to be put in.",
            "There are three ways here. A learned table has a vector for place 1, place 2 and so on, which is added to "
            "the embedding. A sinusoidal table does the same with fixed waves, short ones and long ones. [[Rotary "
            "positions]] add nothing: in every head, queries and keys are turned by an angle that grows with their "
            "place, so that their [[dot product]] depends on how far apart they stand and not on where.",
            "A model with none of these is not quite lost. Under the [[causal mask]] the first token sees one token, "
            "the second two, and so on, and several layers together can make something of that.",
        ),
        "What becomes of a model that is not told the order of its tokens?",
        ("no_positions",),
    ),
    Section(
        "masking",
        "Masking",
        (
            "A model learns at all places of a row at once. At each it has to name the next token, and the next token "
            "stands right there in the row. Nothing but the [[causal mask]] keeps it from looking.",
            "The mask is a triangle. Before the [[softmax]], the score of every [[key]] that comes after its [[query]] "
            "is set to minus infinity. Its weight, e to the score, is then exactly 0, and each row of weights is a "
            "distribution over the past.",
            "It also makes training cheap: one pass over T tokens is T predictions, each made as if the text ended "
            "there. And since nothing later can change what was computed for a token, a model that writes keeps it "
            "and computes only what is new.",
        ),
        "What if a model may see the answer while it learns?",
        ("no_mask",),
        "The maps take the mask away from a model that has learned with it. The question below is another one: what a "
        "model learns that never had it.",
    ),
    Section(
        "attention",
        "Attention",
        (
            "From its vector each token makes three: a [[query]], what it looks for; a [[key]], by which it can be "
            "found; and a [[value]], what it hands over.",
            "The [[dot product]] of a query with a key is their score. It is divided by the root of the head size, "
            "since a sum of many products grows with their number, and the [[softmax]] of large scores would see one "
            "key and nothing else. The softmax makes weights of a row of scores: positive, with the sum 1. The output "
            "is the sum of all values, each by its weight.",
            "So [[attention]] carries information from one place to another, and no other part of the model does. How "
            "far it reaches is the [[context length]]: what stands further back is not there.",
        ),
        "What is a longer memory worth?",
        ("tiny_context",),
        "All this happens in several [[head|heads]] at once, which are the next section; here is one of them, for one "
        "query.",
    ),
    Section(
        "heads",
        "Multi-head attention",
        (
            "One attention makes one weighted sum for each token, so it looks in one way only. That is why the "
            "queries, keys and values are shared out among `n_head` [[head|heads]], each with `n_embd / n_head` of the "
            "numbers. All of them look at once, their outputs are laid side by side, and a matrix, `c_proj`, mixes "
            "them.",
            "More heads do not make a model larger: the same matrices are only cut into more pieces. What each head "
            "gets is narrower.",
            "Nobody tells a head what to do. Some come to look at the token before, some at the beginning of the text; "
            "in a model that has trained long enough an [[induction head]] may find what followed the last time.",
        ),
        "Are four narrow heads better than a wide one?",
        ("one_head",),
        "The word below a map says what the head did most clearly on random tokens that repeat; “local” is to look at "
        "a few tokens nearby. A head without a word did nothing of that kind clearly, and any head may do more than "
        "its word says. Small models often have no induction head.",
    ),
    Section(
        "layer",
        "Decoder layer",
        (
            "A layer has two parts. Attention gathers from other places; then an [[MLP]] works on what each token has "
            "by now, on every token alone.",
            "Neither part replaces a token's vector, both add to it. What runs through all layers is called the "
            "[[residual stream]]. As adding leaves a direct way from the end of the model to its beginning, the "
            "[[gradient]] reaches every layer. Before each part a [[norm]] brings the vector to the same scale, so "
            "that what a part is given does not depend on how much the others have added.",
            "Every place along the stream is read by the same [[language-model head]] in the end. So one can ask at "
            "any of them what the model would say if it stopped there: that is the [[logit lens]].",
        ),
        "What do adding and normalising do for learning?",
        ("no_residual", "no_norm"),
    ),
    Section(
        "head",
        "Language-model head",
        (
            "After the last layer each token's vector is normalised once more and compared with one row for every "
            "token of the vocabulary. The dot product with a row is that token's [[logit]], a score that can be any "
            "number.",
            "The [[softmax]] makes probabilities of the logits. Dividing the logits by a [[temperature]] first makes "
            "the likely ones likelier (below 1) or the distribution flatter (above 1); at 0 the most likely token is "
            "always taken. [[Top-k]] and [[top-p]] cut off what is unlikely before a token is drawn.",
            "Only the last place matters for writing. In training all of them do: at each, the model is asked for the "
            "token that follows.",
        ),
        "Does temperature change the order of the tokens, or only how sure the model is?",
        ("temperature",),
    ),
    Section(
        "training",
        "Training and evaluation",
        (
            "The [[cross-entropy]] of a prediction is −log p, in [[nat|nats]], of the token that did follow: 0 if the "
            "model was certain of it, log V if it found all V tokens equally likely. The loss is the mean over all "
            "places of a [[batch]].",
            "The [[gradient]] says for every weight how fast the loss rises with it. The optimizer then moves all "
            "weights a little the other way; [[Adam]] first divides each gradient by its usual size, and [[Muon]], "
            "which most models here learn with, goes equally far in all directions of a matrix. How far they move "
            "is the [[learning rate]]. A training is a few hundred to a few thousand such steps.",
            "The last tenth of the text is never trained on. Once the loss there no longer falls while the training "
            "loss does, the model learns its text by heart: that is [[overfitting]]. [[Perplexity]] is e to the loss: "
            "among how many equally likely tokens the model would be as unsure.",
        ),
        "What if every step is a hundred times as long?",
        ("high_rate",),
        "Below is one step on two short lines. The losses of the whole run are on the Train tab, and what they are "
        "worth on the Evaluate tab.",
    ),
)

GLOSSARY = {
    "adam": "An optimizer that keeps a running mean of each weight's gradient and of its square, and steps by the one "
    "divided by the root of the other.",
    "attention": "Each token takes a weighted sum of what the tokens before it hand over; the weights depend on what "
    "it looks for.",
    "batch": "The rows of text that one training step learns from.",
    "bits per character": "How many bits the model needs on average for one character of a text; fewer is better. It "
    "can be compared between tokenizers.",
    "byte-pair encoding": "Joining the most frequent pair of neighbours into a new token, many times over.",
    "causal mask": "The rule that no token sees what comes after it.",
    "context length": "How many tokens the model can look at, in the code `block_size`.",
    "cosine similarity": "The cosine of the angle between two vectors: 1 in the same direction, 0 with nothing in "
    "common, −1 in opposite ones.",
    "cross-entropy": "The mean of −log p of what did come: how surprised the model was, in nats.",
    "dot product": "The sum of the products of two vectors' numbers; large where they point in the same direction.",
    "embedding": "The vector that stands for a token, in the code a row of `wte`.",
    "gradient": "For each weight, how fast the loss rises when the weight grows.",
    "head": "One of several attentions that work side by side, each on its share of the numbers.",
    "induction head": "A head that finds where the present token stood before and looks at what followed it there.",
    "key": "The vector by which a token can be found.",
    "language-model head": "The last layer, in the code `lm_head`: it gives every token of the vocabulary a score.",
    "learning rate": "How far the weights are moved in one step.",
    "logit": "The score of a token before the softmax; any number.",
    "logit lens": "The model's own last norm and head, applied to the stream after each part.",
    "mlp": "Two or three matrices with a bend between them, applied to every token alone.",
    "muon": "An optimizer that makes all directions in the gradient of a matrix equally long before it steps.",
    "nat": "The unit of surprise where log is the natural logarithm; 1 nat is 1.44 bits.",
    "norm": "Division of a vector by its size, so that its numbers are of unit scale; LayerNorm takes off their mean "
    "as well.",
    "overfitting": "Getting better on the training text and worse on any other.",
    "perplexity": "e to the loss: the number of equally likely tokens that would be as hard to tell apart.",
    "principal components": "The directions in which many vectors differ most.",
    "query": "The vector that says what a token looks for.",
    "residual stream": "The vector of a token on its way through the layers, to which every part adds.",
    "rotary positions": "Turning queries and keys by an angle that grows with their place.",
    "softmax": "e to each of some scores, divided by the sum of all: positive numbers with the sum 1.",
    "temperature": "What the logits are divided by before the softmax.",
    "token": "A piece of text with a number: a character, a word or a part of one.",
    "top-k": "Only the k most likely tokens can be drawn.",
    "top-p": "Only the most likely tokens that together have the probability p can be drawn.",
    "transformer": "A model of layers with attention and an MLP each (Vaswani et al. 2017).",
    "value": "The vector that a token hands over to those who look at it.",
    "vocabulary": "All tokens that a model knows, each with its id.",
    "weights": "The numbers inside a model that training changes.",
}


def pieces(paragraph: str) -> Iterator[Piece]:
    """A paragraph in order: its plain text, its names of the code, its terms.

    >>> list(pieces("All [[head|heads]] of `n_head`."))  # doctest: +NORMALIZE_WHITESPACE
    [Piece(text='All ', kind='text', term=''), Piece(text='heads', kind='term', term='head'),
     Piece(text=' of ', kind='text', term=''), Piece(text='n_head', kind='code', term=''),
     Piece(text='.', kind='text', term='')]
    """
    at = 0
    for found in MARKUP.finditer(paragraph):
        if paragraph[at : found.start()]:
            yield Piece(paragraph[at : found.start()])
        if found["code"]:
            yield Piece(found["code"], "code")
        else:
            yield Piece(found["shown"] or found["term"], "term", found["term"].lower())
        at = found.end()
    if paragraph[at:]:
        yield Piece(paragraph[at:])
