"""What was used lately is there, and the rest is not."""

import doctest
import random

from playground import recent as recent_module
from playground.recent import Recent


def test_the_example_is_true():
    results = doctest.testmod(recent_module)
    assert results.attempted > 0 and results.failed == 0


def test_what_was_asked_for_stays_longer():
    recent = Recent(max_bytes=3)
    for name in "abc":
        recent.put(name, name.upper(), 1)
    assert recent.get("a") == "A"
    recent.put("d", "D", 1)
    assert [recent.get(name) for name in "abcd"] == ["A", None, "C", "D"]


def test_the_latest_stays_however_large_it_is():
    recent = Recent(max_bytes=10)
    recent.put("small", 1, 4)
    recent.put("huge", 2, 1_000)
    assert recent.get("small") is None and recent.get("huge") == 2
    recent.put("small", 3, 4)
    assert recent.get("small") == 3 and recent.get("huge") is None


def test_a_thing_put_again_counts_once_and_with_its_new_size():
    recent = Recent(max_bytes=10)
    recent.put("a", 1, 6)
    recent.put("a", 2, 3)
    recent.put("b", 3, 7)
    assert recent.get("a") == 2 and recent.get("b") == 3
    recent.drop("a")
    recent.drop("a")  # what is not there need not be dropped
    assert recent.get("a") is None and recent.get("b") == 3


def test_many_things_in_any_order_against_a_plain_list():
    """The plain list: the latest used last; from its front things go until the sizes fit."""
    rng, recent, plain = random.Random(0), Recent(max_bytes=20), []
    for _ in range(2_000):
        key = rng.randrange(8)
        known = next((entry for entry in plain if entry[0] == key), None)
        if rng.random() < 0.5:
            assert recent.get(key) == (known[1] if known else None)
            plain = [entry for entry in plain if entry is not known] + ([known] if known else [])
        else:
            thing, n_bytes = rng.random(), rng.randrange(1, 12)
            recent.put(key, thing, n_bytes)
            plain = [entry for entry in plain if entry is not known] + [(key, thing, n_bytes)]
            while len(plain) > 1 and sum(entry[2] for entry in plain) > 20:
                plain.pop(0)
