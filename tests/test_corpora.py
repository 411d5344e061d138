"""The built-in corpora: stories that read well, puzzles that are right."""

import os
import random
import re
import subprocess
import sys

import pytest

from playground import corpora
from playground.corpora import BUILT_IN


@pytest.fixture(scope="module")
def story_text():
    return BUILT_IN["stories"].make(1)


@pytest.fixture(scope="module")
def stories(story_text):
    return story_text.rstrip("\n").split("\n\n")


# --- All four ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["stories", "sums", "brackets", "repeats"])
def test_a_seed_makes_one_text(key):
    make = BUILT_IN[key].make
    assert make(1) == make(1)
    assert make(1) != make(2)


def test_the_text_does_not_depend_on_the_process():
    """Iterating a set of strings, for one, would give another order in each process."""
    code = (
        "import hashlib; from playground.corpora import stories; print(hashlib.sha256(stories(1).encode()).hexdigest())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


@pytest.mark.parametrize(("key", "size"), [("stories", 1e6), ("sums", 5e5), ("brackets", 5e5), ("repeats", 5e5)])
def test_size_and_characters(key, size):
    text = BUILT_IN[key].make(1)
    assert size <= len(text) <= 1.01 * size
    assert text.isascii()
    assert text.endswith("\n") and not text.endswith("\n\n")


# --- Stories ----------------------------------------------------------------------------------------------------------


def test_stories_are_rich_and_all_different(story_text, stories):
    assert len(set(re.findall("[a-z]+", story_text.lower()))) >= 1_000
    assert len(stories) >= 900
    assert len(set(stories)) == len(stories)
    assert all(200 < len(story) < 3_000 for story in stories)
    openings = [" ".join(story.split()[:3]) for story in stories]
    assert max(openings.count(opening) for opening in set(openings)) < len(stories) / 4


def test_every_story_has_dialogue(stories):
    assert all(story.count('"') >= 2 for story in stories)


@pytest.mark.parametrize(
    "mistake",
    [
        r"[\[\]{}/|¶_]",  # a piece of the grammar
        r"  ",
        r"\n ",
        r" \n",
        r"\n\n\n",
        r" [,.!?]",
        r"[,.!?:][,.!?:]",
        r'[.!?] "?[a-z]',  # a sentence that begins small; after a closing quotation mark it may
        r'\." [a-z]',
        r"(?m)^[a-z]",
        r"\b[Aa] [aeiou]",
        r"\b[Aa]n [^aeiou]",
        r"\b(\w+) \1\b",
        r'" "',  # two speakers in one paragraph
    ],
)
def test_no_slips_of_the_pen(story_text, mistake):
    slips = [story_text[max(0, m.start() - 30) : m.end() + 30] for m in re.finditer(mistake, story_text)]
    assert slips == []


def test_quotation_marks_close_within_the_paragraph(story_text):
    for paragraph in story_text.splitlines():
        assert paragraph.count('"') % 2 == 0, paragraph
        for inside in paragraph.split('"')[1::2]:
            assert inside == inside.strip() and inside[-1] in ".,!?", paragraph


def test_names_keep_their_he_or_she(story_text):
    """Who is called a girl anywhere is a she everywhere, as an animal too."""
    pronouns = {name: {child} for child, name in re.findall(r"(girl|boy) (?:named|called) (\w+)", story_text)}
    assert len(pronouns) >= 40
    genders = {"girl": ("she", "her"), "boy": ("he", "his")}
    named = re.findall(r"(?:named|called) (\w+)\. (She|He) lived", story_text)
    named += re.findall(
        r"(\w+) (?:reached under|could hear|rolled up|scratched|folded|counted on) (her|his)", story_text
    )
    named += re.findall(r"said (\w+)\. \"[^\"]*\" And (she|he) hurried", story_text)
    assert len(named) > 300
    for name, pronoun in named:
        (child,) = pronouns[name]
        assert pronoun.lower() in genders[child], (name, pronoun)


def test_hero_and_friend_differ_in_pronoun():
    rng = random.Random(0)
    for _ in range(200):
        words = corpora._cast(rng.choice(corpora.SHAPES), rng)
        assert {words["he"], words["he2"]} == {"he", "she"}
        for key in ("place", "helper", "colour", "treat", "trait"):
            assert words[key] != words[key + "2"]


def test_every_way_to_tell_every_case_can_be_filled():
    """Also those that are drawn rarely: an unknown {word} raises KeyError."""
    rng = random.Random(0)
    for shape in corpora.SHAPES:
        for case in shape.cases:
            words = corpora._cast(shape._replace(cases=[case]), rng)
            told = [corpora._fill(way, words, rng) for ways in shape.beats for way in ways]
            assert not re.search(r"[\[\]{}/|]", " ".join(told))


@pytest.mark.parametrize(
    ("sign", "season"),
    [
        ("snow had melted|first flowers|green and new", "spring"),
        ("bees hummed|crickets|flies were sleepy", "summer"),
        ("red and gold|wild geese|thick fog lay", "autumn"),
        ("snow lay|frost|icicles|snowflakes", "winter"),
    ],
)
def test_weather_fits_the_season(story_text, sign, season):
    paragraphs = [paragraph for paragraph in story_text.splitlines() if re.search(sign, paragraph)]
    assert len(paragraphs) > 50
    assert all(season in paragraph for paragraph in paragraphs)


def test_seeds_are_sown_in_spring(stories):
    sown = [story for story in stories if re.search("one single seed|tiny seed|found a seed", story)]
    assert len(sown) > 20
    assert all("spring" in story for story in sown)


# --- Puzzles ----------------------------------------------------------------------------------------------------------


def test_sums_are_right_and_many_have_carries():
    lines = BUILT_IN["sums"].make(1).splitlines()
    with_carry = 0
    for line in lines:
        a, b, total = map(int, re.fullmatch(r"(\d{1,3})\+(\d{1,3})=(\d{1,4})", line).groups())
        assert a + b == total
        with_carry += a % 10 + b % 10 >= 10
    assert 0.4 < with_carry / len(lines) < 0.5  # 45 of the 100 pairs of last digits carry
    assert len(set(lines)) > 0.9 * len(lines)


def test_brackets_are_balanced_and_deep():
    partner = {")": "(", "]": "[", "}": "{", ">": "<"}
    lines = BUILT_IN["brackets"].make(1).splitlines()
    deepest = []
    for line in lines:
        still_open, depth = [], 0
        for bracket in line:
            if bracket in partner:
                assert still_open.pop() == partner[bracket], line
            else:
                still_open.append(bracket)
            depth = max(depth, len(still_open))
        assert not still_open, line
        deepest.append(depth)
    assert max(deepest) == 8
    assert sum(depth >= 3 for depth in deepest) > len(lines) / 2
    assert set("".join(lines)) == set("()[]{}<>")


def test_repeats_say_random_letters_three_times():
    lines = BUILT_IN["repeats"].make(1).splitlines()
    for line in lines:
        first, second, third = line.split(" ")
        assert first == second == third
    words = [line.split(" ")[0] for line in lines]
    assert {len(word) for word in words} == set(range(5, 16))
    assert len(set(words)) > 0.99 * len(words)
