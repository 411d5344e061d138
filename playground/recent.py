"""What was used lately stays at hand, and the rest makes way."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Thing = TypeVar("Thing")


class Recent(Generic[Thing]):
    """Things by key, the lately used ones up to `max_bytes` in all; the latest stays however large it is.

    >>> recent = Recent(max_bytes=10)
    >>> for name in "abc":
    ...     recent.put(name, name.upper(), 4)
    >>> recent.get("a"), recent.get("b"), recent.get("c")
    (None, 'B', 'C')
    """

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self._kept: OrderedDict[Hashable, tuple[Thing, int]] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, key: Hashable, thing: Thing, n_bytes: int) -> None:
        with self._lock:
            self._kept[key] = (thing, n_bytes)
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and sum(n for _, n in self._kept.values()) > self.max_bytes:
                self._kept.popitem(last=False)

    def get(self, key: Hashable) -> Thing | None:
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def drop(self, key: Hashable) -> None:
        with self._lock:
            self._kept.pop(key, None)
