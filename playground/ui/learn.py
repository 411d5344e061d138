"""The Learn tab: ten sections on a sentence of the visitor's, each with a picture, its code and a question."""

from collections.abc import Callable, Iterator
from itertools import islice

import gradio as gr

from playground.checkpoint import Checkpoint
from playground.course import SECTIONS
from playground.errors import BadInput
from playground.tries import TRIES
from playground.ui import ablation, closer, embeddings, experiments
from playground.ui.attention import HEAD_FIGURE, grid_functions, head_figure
from playground.ui.components.attention_map import AVERAGE, attention_map
from playground.ui.components.code_lines import code_lines, pack_listing
from playground.ui.components.course import course_words
from playground.ui.components.downloads import downloads
from playground.ui.components.embedding_map import embedding_map
from playground.ui.components.experiment_view import experiment_view, pack_experiments
from playground.ui.components.facts import facts, pack_facts
from playground.ui.components.for_class import for_class
from playground.ui.components.go_on import go_on
from playground.ui.components.head_stages import head_stages
from playground.ui.components.logit_lens import logit_lens_table
from playground.ui.components.mask_view import mask_view
from playground.ui.components.next_token import next_token, pack_next
from playground.ui.components.question import pack_answer, question
from playground.ui.components.token_view import token_view
from playground.ui.components.unrolled_step import pack_choices, pack_step, unrolled_step
from playground.ui.generate import bars_figure
from playground.ui.looks import follow_picks, look_at
from playground.ui.shown import Inspections
from playground.ui.site import QUIET, Site, Tab, answer, beginning, fitting_prompt, suggest_prompt, tell, unless_same
from playground.ui.takehome import take_home, to_take
from playground.ui.tokenizer import cut_by_each
from playground.unrolled import encode_line, longest_line, unroll
from playground.walkthrough import walk
from playground.workspaces import Workspace

SENTENCE = 28  # characters of one that is suggested: the model still has something to say
LINE = 24  # characters of a line that is suggested
LOOKED_AT = 20_000  # characters of the text in which lines are looked for
TAKE_HOME = (
    "### Take it home\nA **notebook** in these ten sections, with the code and your settings: it trains this model "
    "anew and ends at the same loss. Or a **lesson page**, one file to open or hand out, with this model's pictures."
)
OF_A_HEAD = ("positions", "masking", "attention", "heads", "layer")  # sections whose code is that of one head or layer
NO_CHOICE = "The page asked for no step that can be taken: reload it."
NOT_KEPT = "What stood here is not kept any more: press Look at it."
NO_SECTION = "The course has no such section: reload the page."
NO_QUESTION = "The course has no such question: reload the page."


def build(site: Site) -> Tab:
    inspections = Inspections(NOT_KEPT)
    closely, without = closer.functions(site, inspections), ablation.functions(site, inspections)
    tables = embeddings.functions(site, inspections)
    with gr.Column(elem_id="course", elem_classes="course"):
        sentence = gr.Textbox(
            label="Your sentence, the prompt of all that follows",
            lines=1,
            max_lines=4,
            submit_btn="Look at it",
            elem_id="sentence",
            elem_classes="controls",
        )
        note = facts(elem_id="sentence-note")
        words = course_words(elem_id="course-words")
        bars = next_token(bars_figure(site), **_of("introduction"))
        cut = token_view(**_of("tokenizer"))
        looking = [
            embedding_map(*tables.values(), **_of("embedding", "positions")),
            mask_view(without["mask"], without["figure"], **_of("masking")),
            head_stages(closely["stages"], closely["stages_figure"], **_of("attention")),
            heads := attention_map(*grid_functions(inspections), closely["badges"], **_of("heads")),
            downloads(
                head_figure(inspections), HEAD_FIGURE, elem_id="course-head", elem_classes=["course-part", "of-heads"]
            ),
            logit_lens_table(closely["lens"], closely["lens_figure"], **_of("layer", "head")),
        ]
        unrolled = unrolled_step(_step(site), elem_id="unrolled", elem_classes=["course-part", "of-training"])
        code = code_lines(_lines_of(site, inspections), elem_id="course-code")
        asked = question(_answer(site, inspections), elem_id="course-question")
        broken = experiment_view(**experiments.functions(site), elem_id="experiments")
        go_on(elem_id="course-go-on")
    gr.Markdown(TAKE_HOME, elem_id="take-home-words")
    home = take_home(site)
    for_class(elem_id="for-class")
    _, mask, stages, _, figure, _ = looking
    follow_picks(heads, inspections, [code, mask, stages, figure])
    looking += [code, asked]
    shown = [note, words, cut, bars, *looking, home]

    def looked_at(workspace: Workspace, checkpoint: Checkpoint, version: int, key: str, sentence: str) -> list:
        look, note = look_at(site, inspections, key, checkpoint, sentence)
        link = {"shipped": look["shipped"], "sentence": look["prompt"]}
        logits, text = inspections.get(look["id"]).inspection.logits[-1], checkpoint.tokenizer.token_text
        distribution = pack_next(logits, text, 1.0, 0, 1.0, look["prompt"], key)
        seen = [note, link, cut_by_each(workspace, checkpoint, sentence), distribution, *[look] * len(looking)]
        return [*seen, to_take(key, version, sentence)]

    @tell
    def look_anew(key, sentence):
        workspace = site.workspace(key)
        try:
            with site.visit():
                return looked_at(workspace, *workspace.in_use, key, sentence)
        except BadInput as error:
            sentence = f"{error} What stands below is still of the sentence before."
            return [pack_facts("", {}, sentence, warning=True), *[gr.skip()] * (len(shown) - 1)]

    sentence.submit(look_anew, [site.visitor, sentence], shown, queue=False, **QUIET)

    def show(workspace: Workspace, checkpoint: Checkpoint, key, sentence):
        fitting = fitting_prompt(checkpoint, sentence, longest=SENTENCE)
        version = workspace.in_use[1]
        step = {"visitor": key, "version": version}
        step |= pack_choices(checkpoint, suggest_lines(workspace, checkpoint))
        return [
            unless_same(fitting, sentence),
            *looked_at(workspace, checkpoint, version, key, fitting),
            step,
            pack_experiments(key),
        ]

    return Tab([site.visitor, sentence], [sentence, *shown, unrolled, broken], show, asked={"sentence": sentence})


def _of(*slugs: str) -> dict:
    """Where a picture stands in the course."""
    return {"elem_id": f"course-{slugs[0]}", "elem_classes": ["course-part", *(f"of-{slug}" for slug in slugs)]}


def _lines_of(site: Site, inspections: Inspections) -> Callable:
    @answer(str, str, int, int)
    def lines(key, slug, layer, head):
        shown = inspections.get(key)
        shown.check(layer, head)
        if slug not in {section.slug for section in SECTIONS}:
            raise BadInput(NO_SECTION)
        place = [0 if i == AVERAGE else i for i in (layer, head)]  # an average has no code of its own
        with site.visit():
            seen = walk(shown.checkpoint, shown.ids, slug, *place)
        return {"place": place if slug in OF_A_HEAD else None, "listings": list(map(pack_listing, seen))}

    return lines


def _answer(site: Site, inspections: Inspections) -> Callable:
    @answer(str, str)
    def by_a_look(key, name):
        shown = inspections.get(key)
        if name not in TRIES:
            raise BadInput(NO_QUESTION)
        with site.visit():
            found = TRIES[name](shown.checkpoint, shown.ids)
        return pack_answer(found, shown.checkpoint.tokenizer.token_text)

    return by_a_look


def _step(site: Site) -> Callable:
    @answer(str, int, dict)
    def step(key, version, chosen):
        match chosen:
            case {"lines": [str(first), str(second)], "tensor": str(tensor), "index": list(index), "rate": rate}:
                checkpoint = site.checkpoint(key, version)
            case _:
                raise BadInput(NO_CHOICE)
        with site.visit():
            unrolled = unroll(checkpoint, (first, second), tensor, index, rate)
        return pack_step(unrolled, checkpoint.tokenizer.token_text)

    return step


def suggest_lines(workspace: Workspace, checkpoint: Checkpoint) -> list[str]:
    """How two lines begin that the model knows: of the text it learned from, or else of what it wrote."""
    known = (line for line in _lines(workspace, checkpoint) if _fits(checkpoint, line))
    found = list(islice(dict.fromkeys(known), 2))
    return (2 * found)[:2] or ["", ""]


def _lines(workspace: Workspace, checkpoint: Checkpoint) -> Iterator[str]:
    text = workspace.text_of(checkpoint)
    samples = [step.sample for step in reversed(checkpoint.history) if step.sample]
    longest = min(LINE, longest_line(checkpoint))  # a token is a character or more
    for source in ([text.text[:LOOKED_AT]] if text else []) + samples:
        yield from (beginning(line.strip(), longest) for line in source.splitlines())
    yield suggest_prompt(checkpoint, longest)


def _fits(checkpoint: Checkpoint, line: str) -> bool:
    try:
        return bool(encode_line(checkpoint, line, "A line"))
    except BadInput:
        return False
