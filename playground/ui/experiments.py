"""Break-it experiments on the page: two twins learn in bursts, so that other visitors have their turn between them."""

import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from playground.errors import BadInput
from playground.experiments import EXPERIMENTS, Experiment, Result, Step, run
from playground.recent import Recent
from playground.ui.components.experiment_view import pack_events
from playground.ui.site import Site, answer

BURST_SECONDS = 0.3
RUN_BYTES = 16 * 2**20  # about, of two twins with their optimizers and activations
MAX_KEPT_BYTES = 32 * RUN_BYTES
MADE_WAY = "This experiment has made way for another one: run it again."
ENDED = "This experiment is at its end: run it again."
NO_SUCH = "There is no experiment of this name: reload the page."


@dataclass(frozen=True, eq=False)
class Running:
    """An experiment on its way. Whoever asks for more of it needs its visitor's key and its id."""

    experiment: Experiment
    events: Iterator[Step | Result]
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    lock: threading.Lock = field(default_factory=threading.Lock)  # a generator goes on for one at a time


def functions(site: Site) -> dict[str, Callable]:
    """The server functions, by their names. A visitor has one experiment at a time; a new one replaces it."""
    running: Recent[Running] = Recent(MAX_KEPT_BYTES)

    def of(key: str, id: str) -> Running:
        """Raises `BadInput` for an experiment that is not this visitor's, or not any more."""
        site.workspace(key)
        one = running.get(key)
        if not one or not secrets.compare_digest(one.id.encode(), id.encode()):
            raise BadInput(MADE_WAY)
        return one

    @answer(str, str, int)
    def begin(key, name, seed):
        site.workspace(key)
        if name not in EXPERIMENTS:
            raise BadInput(NO_SUCH)
        one = Running(EXPERIMENTS[name], run(EXPERIMENTS[name], seed))
        running.put(key, one, RUN_BYTES)
        return {"id": one.id}

    @answer(str, str)
    def more(key, id):
        one = of(key, id)
        with one.lock:
            events = site.burst(one.events, BURST_SECONDS)
        if not events:
            raise BadInput(ENDED)
        return pack_events(one.experiment, events)

    @answer(str, str)
    def stop(key, id):
        of(key, id)
        running.drop(key)
        return {}

    return {f.__name__: f for f in (begin, more, stop)}
