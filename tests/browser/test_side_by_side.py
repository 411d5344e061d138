"""The texts of the Generate tab: two beside each other, what else could have stood at each token, and other choices."""

import re

import pytest
from playwright.sync_api import Locator, expect

from playground.generation import Sampling, stream_generate
from playground.tokenizer import StreamDecoder
from playground.writing import Writer

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

MARKUP = "<img src=x onerror=window.pwned=1>"


@pytest.fixture
def texts(visitor, tiny_checkpoint) -> Locator:
    visitor.use(tiny_checkpoint)
    visitor.open("Generate")
    visitor.fill("prompt", "the goose")
    visitor.fill("length", 20)
    return visitor.own("generated")


def text_of(checkpoint, n: int, sampling: Sampling, seed: int = 0) -> str:
    return "the goose" + "".join(s.text for s in stream_generate(checkpoint, "the goose", n, sampling, seed))


def write(visitor, texts: Locator) -> None:
    before = texts.get_attribute("data-seq")
    visitor.at("generate").click()
    visitor.until(lambda: texts.get_attribute("data-seq") != before, "a new text is begun")
    expect(texts.locator(".wr-state")).to_have_text("Written.")


def rows(texts: Locator) -> list[list[str]]:
    return [row.locator("th, td").all_text_contents() for row in texts.locator(".wr-place tbody tr").all()]


def name_of(checkpoint, id: int) -> str:
    return checkpoint.tokenizer.token_text(id).replace(" ", "·").replace("\n", "↵")


def shown(checkpoint, alternatives) -> list[list[str]]:
    """Rows of what could stand at a place where nothing is cut off."""

    def share(p: float) -> str:
        return "< 0.1 %" if 0 < p < 0.0005 else f"{100 * p:.1f} %"

    numbers = zip(alternatives.ids.tolist(), alternatives.uncut, alternatives.probs, strict=True)
    return [[name_of(checkpoint, i), share(uncut), share(p)] for i, uncut, p in numbers]


def test_two_models_with_their_settings_write_together(visitor, texts, tiny_checkpoint, shipped):
    visitor.at("beside").get_by_role("checkbox").check()
    visitor.at("second-model").locator("input").click()
    visitor.page.get_by_role("option", name=shipped.name).click()
    visitor.fill("second-temperature", 1.3)
    visitor.fill("second-top-k", 5)
    visitor.fill("temperature", 0.5)
    visitor.fill("length", 400)
    visitor.fill("sampling-seed", 3)
    visitor.at("generate").click()
    visitor.until(lambda: all(len(visitor.generated(side)) > 10 for side in (0, 1)), "both are writing")
    expect(texts.locator(".wr-state")).to_have_text("Written.")
    assert visitor.generated(0) == text_of(tiny_checkpoint, 400, Sampling(0.5), 3)
    ids = [s.id for s in stream_generate(shipped, "the goose", 400, Sampling(1.3, 5), 3)]
    decoder = StreamDecoder(shipped.tokenizer)
    assert visitor.generated(1) == "the goose" + "".join(decoder.push(i) for i in ids)
    heads = texts.locator(".wr-head")
    expect(heads.nth(0)).to_contain_text(f"1 · {tiny_checkpoint.name}")
    expect(heads.nth(0)).to_contain_text("temperature 0.5, top-k off, top-p off · 400 tokens")
    expect(heads.nth(1)).to_contain_text(f"2 · {shipped.name}, step {shipped.step:,} · temperature 1.3, top-k 5")

    visitor.at("beside").get_by_role("checkbox").uncheck()
    visitor.fill("length", 20)
    write(visitor, texts)
    expect(texts.locator(".wr-text")).to_have_count(1)


def test_what_else_could_have_stood_at_a_token(visitor, texts, tiny_checkpoint):
    write(visitor, texts)
    writer = Writer(tiny_checkpoint, "the goose", 0)
    for _ in range(20):
        writer.draw(Sampling(0.8))
    for i in (0, 7, 19):
        texts.locator(".wr-token").nth(i).hover()
        expect(texts).to_have_attribute("data-place", str(i))
        token = writer.tokens[i]
        expect(texts.locator(".wr-told")).to_contain_text(f"rank {token.rank}. Nothing is cut off.")
        expected = shown(tiny_checkpoint, token.alternatives)
        assert rows(texts)[: len(expected)] == expected
        expect(texts.locator(".wr-here th")).to_have_text(name_of(tiny_checkpoint, token.id))
    visitor.page.mouse.move(0, 0)
    expect(texts).to_have_attribute("data-place", "20")  # back to what comes next
    assert rows(texts) == shown(tiny_checkpoint, writer.ahead(Sampling(0.8)))


def test_what_the_settings_cut_off(visitor, texts, tiny_checkpoint):
    visitor.fill("top-k", 4)
    visitor.fill("top-p", 0.6)
    write(visitor, texts)
    writer = Writer(tiny_checkpoint, "the goose", 0)
    token = writer.draw(Sampling(0.8, 4, 0.6))
    texts.locator(".wr-token").first.hover()
    expect(texts).to_have_attribute("data-place", "0")
    cut = [row[2] if row[2].startswith("cut") else "" for row in rows(texts)]
    n = token.alternatives.n_drawable
    assert 0 < n <= 4 and cut == [""] * n + ["cut by top-p"] * (4 - n) + ["cut by top-k"] * 4
    told = f"{n} token{'s' * (n > 1)} can be drawn; top-k and top-p cut off {100 * token.alternatives.lost:.1f} %."
    expect(texts.locator(".wr-told")).to_contain_text(told)
    visitor.fill("temperature", 0)  # what comes next follows the settings
    visitor.page.mouse.move(0, 0)
    expect(texts.locator(".wr-told")).to_have_text("What comes next? Temperature 0 takes the likeliest.")
    expect(texts.locator(".wr-place tbody tr").first.locator("td").last).to_have_text("100.0 %")


def test_step_by_step_with_choices_of_ones_own(visitor, texts, tiny_checkpoint):
    visitor.at("step-by-step").click()
    expect(texts.locator(".wr-place tbody tr")).to_have_count(8)
    assert visitor.generated() == "the goose"
    writer = Writer(tiny_checkpoint, "the goose", 0)
    for act in ("draw", 2, "draw", 0, "draw"):
        if act == "draw":
            texts.get_by_role("button", name="One token").click()
            writer.draw(Sampling(0.8))
        else:
            texts.locator(".wr-place tbody button").nth(act).click()
            id = int(writer.ahead(Sampling(0.8)).ids[act])
            writer.choose(len(writer.tokens), [id], Sampling(0.8))
        expected = "the goose" + "".join(token.text for token in writer.tokens)
        visitor.until(lambda expected=expected: visitor.generated() == expected, f"the text is {expected}")
        expect(texts).to_have_attribute("data-writing", "false")
        assert rows(texts) == shown(tiny_checkpoint, writer.ahead(Sampling(0.8)))
    expect(texts.locator(".wr-chosen")).to_have_count(2)
    expect(texts).to_have_attribute("data-kept", "1")  # one text, whatever its steps
    texts.get_by_role("button", name="Go on").click()
    while len(writer.tokens) < 20:
        writer.draw(Sampling(0.8))
    expected = "the goose" + "".join(token.text for token in writer.tokens)
    visitor.until(lambda: visitor.generated() == expected, "it went on to the length that was asked for")


def test_another_token_in_the_middle_and_on_from_there(visitor, texts, tiny_checkpoint):
    write(visitor, texts)
    first = visitor.generated()
    writer = Writer(tiny_checkpoint, "the goose", 0)
    for _ in range(20):
        writer.draw(Sampling(0.8))
    texts.locator(".wr-token").nth(5).click()
    visitor.page.mouse.move(0, 0)
    expect(texts).to_have_attribute("data-place", "5")  # it is held
    texts.locator(".wr-place tbody tr:not(.wr-here) button").nth(3).click()
    choices = [int(i) for i in writer.tokens[5].alternatives.ids if i != writer.tokens[5].id]
    writer.choose(5, [choices[3]], Sampling(0.8))
    while len(writer.tokens) < 20:
        writer.draw(Sampling(0.8))
    expected = "the goose" + "".join(token.text for token in writer.tokens)
    visitor.until(lambda: visitor.generated() == expected != first, "it went on from there")
    expect(texts.locator(".wr-chosen")).to_have_count(1)

    # The same as to ask for it with the text up to there as the prompt.
    expect(texts).to_have_attribute("data-kept", "2")  # the text as it was, and as it is
    visitor.fill("prompt", expected[: len("the goose") + 6])
    visitor.fill("length", 14)
    write(visitor, texts)
    assert visitor.generated() == expected


def test_a_text_of_ones_own_in_place_of_a_token(visitor, texts, tiny_checkpoint):
    write(visitor, texts)
    before = visitor.generated()
    texts.locator(".wr-token").nth(3).click()
    for typed in ("Ω", MARKUP + "Ω"):
        texts.get_by_label("or type it").fill(typed)
        texts.get_by_role("button", name="Put it there").click()
        expect(texts.locator(".wr-state")).to_contain_text("The model does not know all of this")
        assert visitor.generated() == before
    texts.get_by_label("or type it").fill("the cat")
    texts.get_by_label("or type it").press("Enter")
    begin = before[: len("the goose") + 3] + "the cat"
    visitor.until(lambda: visitor.generated().startswith(begin), "what was typed stands there")
    expect(texts.locator(".wr-state")).to_have_text("Written.")
    assert len(visitor.generated()) == len(before)
    expect(texts.locator(".wr-chosen")).to_have_count(7)
    visitor.expect_nothing_run()


def test_the_text_is_read_with_the_keyboard(visitor, texts):
    write(visitor, texts)
    texts.locator(".wr-caret").focus()
    for key, place in (("ArrowLeft", 19), ("ArrowUp", 18), ("ArrowRight", 19), ("ArrowDown", 20), ("ArrowRight", 20)):
        visitor.page.keyboard.press(key)
        expect(texts).to_have_attribute("data-place", str(place))
    expect(texts.locator(".wr-text [tabindex='0']")).to_have_count(1)


def test_texts_are_kept_with_their_settings_and_copied(visitor, texts, tiny_checkpoint):
    visitor.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    write(visitor, texts)
    first = visitor.generated()
    visitor.fill("sampling-seed", 7)
    visitor.fill("top-k", 5)
    write(visitor, texts)
    second = visitor.generated()
    visitor.reload()
    visitor.open("Generate")
    history = visitor.own("generated").locator(".wr-history")
    expect(history.locator("summary")).to_have_text("Written before (2)")
    history.locator("summary").click()
    assert history.locator(".look-text").all_text_contents() == [second, first]
    title = f"{tiny_checkpoint.name}, step {tiny_checkpoint.step:,}"
    about = f"{title} · temperature 0.8, top-k 5, top-p off · seed 7 · 20 tokens"
    expect(history.locator(".wr-about").first).to_have_text(about)
    for name, copied in (("Copy", second), ("Copy with settings", f"{about}\n\n{second}")):
        history.locator("li").first.get_by_role("button", name=name, exact=True).click()
        expect(history.get_by_role("button", name="Copied")).to_be_visible()
        assert visitor.page.evaluate("navigator.clipboard.readText()") == copied
        expect(history.get_by_role("button", name="Copied")).to_have_count(0)
    history.locator("li").first.get_by_role("button", name="Remove").click()
    assert history.locator(".look-text").all_text_contents() == [first]
    history.get_by_role("button", name=re.compile("Remove all")).click()
    expect(history).to_be_hidden()


def test_an_answer_that_was_lost_is_asked_for_again(visitor, texts, tiny_checkpoint):
    def lose(route) -> None:
        route.fetch()  # the server writes
        route.fulfill(body="null", content_type="application/json")

    write(visitor, texts)
    visitor.page.route("**/component_server/", lose)
    texts.get_by_role("button", name="Go on").click()
    expect(texts.locator(".wr-state")).to_have_text("The server did not answer: try again.")
    visitor.page.unroute("**/component_server/")
    texts.get_by_role("button", name="Go on").click()
    expect(texts.locator(".wr-state")).to_have_text("Written.")
    assert visitor.generated() == text_of(tiny_checkpoint, 40, Sampling(0.8))
