"""What pages look at: inspections by names that cannot be guessed, and checks of what a page says it sees in one."""

import secrets
import weakref
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from playground.checkpoint import Checkpoint
from playground.errors import BadInput
from playground.inspection import Inspection
from playground.recent import Recent
from playground.ui.components.attention_map import AVERAGE

NO_SUCH_HEAD = "The model has no such head: choose one of the list."
NOT_KEPT = "This picture is not kept any more: press Show attention."
MAX_KEPT_BYTES = 2**25  # of inspections for pages to ask about; a page whose own is gone is told so


@dataclass(frozen=True)
class Shown:
    """An inspection that a page is looking at, and the caption of its figures. It does not keep its model in memory."""

    caption: str
    model: "weakref.ref[Checkpoint]"
    inspection: Inspection

    @property
    def checkpoint(self) -> Checkpoint:
        return alive(self.model, NOT_KEPT)

    @property
    def nbytes(self) -> int:
        return self.inspection.attention.nbytes + self.inspection.logits.nbytes

    @property
    def ids(self) -> list[int]:
        return [token.id for token in self.inspection.tokens]

    def position(self, i: int) -> int:
        """The place of a token as the page names it: from 0; -1 is the last. Raises `BadInput` for one too far."""
        n = len(self.inspection.tokens)
        if not -1 <= i < n:
            raise BadInput("The prompt has no such token: choose one of the list.")
        return i % n

    def has(self, layer: int, head: int) -> bool:
        """Whether there is such a head. They are named from 0; -1 is an average."""
        n_layer, n_head = self.inspection.attention.shape[:2]
        return AVERAGE <= layer < n_layer and AVERAGE <= head < n_head and (layer != AVERAGE or head == AVERAGE)

    def check(self, layer: int, head: int) -> None:
        """Raises `BadInput` unless there is such a head, or average."""
        if not self.has(layer, head):
            raise BadInput(NO_SUCH_HEAD)

    @staticmethod
    def place_name(layer: int, head: int) -> str:
        """For the name of a file.

        >>> Shown.place_name(1, 0), Shown.place_name(1, AVERAGE)
        ('layer2-head1', 'layer2-heads-average')
        """
        named = (("layer", layer), ("head", head))
        return "-".join(f"{part}s-average" if i == AVERAGE else f"{part}{i + 1}" for part, i in named)


Held = TypeVar("Held")


def alive(reference: "weakref.ref[Held]", not_kept: str) -> Held:
    """What a page looks at, unless it has made way. Raises `BadInput` with the sentence then."""
    held = reference()
    if held is None:
        raise BadInput(not_kept)
    return held


class Sized(Protocol):
    nbytes: int


Thing = TypeVar("Thing", bound=Sized)


class Kept(Generic[Thing]):
    """The latest things that pages look at, by ids that cannot be guessed: a page asks for one part at a time."""

    def __init__(self, max_bytes: int, not_kept: str):
        self._recent: Recent[Thing] = Recent(max_bytes)
        self._not_kept = not_kept

    def add(self, thing: Thing) -> str:
        key = secrets.token_urlsafe(16)
        self._recent.put(key, thing, thing.nbytes)
        return key

    def get(self, key: str) -> Thing:
        """Raises `BadInput` for what is not kept any more."""
        thing = self._recent.get(key)
        if not thing:
            raise BadInput(self._not_kept)
        return thing


class Inspections(Kept[Shown]):
    """What a tab shows of traces; a page whose own is gone is told `not_kept`."""

    def __init__(self, not_kept: str = NOT_KEPT):
        super().__init__(MAX_KEPT_BYTES, not_kept)
