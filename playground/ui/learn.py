"""The Learn tab: what the model in use does and how it learns, step by step, with the code that does it."""

from collections.abc import Callable, Iterator
from itertools import islice

from playground.checkpoint import Checkpoint
from playground.errors import BadInput
from playground.ui.components.unrolled_step import pack_choices, pack_step, unrolled_step
from playground.ui.site import Site, Tab, answer, beginning, suggest_prompt
from playground.unrolled import encode_line, longest_line, unroll
from playground.workspaces import Workspace

LINE = 24  # characters of a line that is suggested
LOOKED_AT = 20_000  # characters of the text in which lines are looked for
NO_CHOICE = "The page asked for no step that can be taken: reload it."


def build(site: Site) -> Tab:
    unrolled = unrolled_step(_step(site), elem_id="unrolled")

    def show(workspace: Workspace, checkpoint: Checkpoint, key):
        look = {"visitor": key, "version": workspace.in_use[1]}
        return [look | pack_choices(checkpoint, suggest_lines(workspace, checkpoint))]

    return Tab([site.visitor], [unrolled], show)


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
