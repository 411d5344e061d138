"""The texts of the Generate tab: two beside each other, what else could have stood at each token, and other choices."""

import re

import pytest
from playwright.sync_api import Locator, expect

from playground.generation import Sampling, stream_generate
from playground.tokenizer import StreamDecoder
from playground.writing import Writer

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

BOTH_ON_THE_WAY = """(element) => [...element.querySelectorAll(".wr-side")].filter((side) => {
  const tokens = side.querySelectorAll(".wr-token").length;
  return 10 < tokens && tokens < 900;
}).length === 2"""
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
    visitor.fill("length", 1000)
    visitor.fill("sampling-seed", 3)
    visitor.at("generate").click()
    visitor.until(lambda: texts.evaluate(BOTH_ON_THE_WAY), "both are writing at one time")
    expect(texts.locator(".wr-state")).to_have_text("Written.")
    assert visitor.generated(0) == text_of(tiny_checkpoint, 1000, Sampling(0.5), 3)
    ids = [s.id for s in stream_generate(shipped, "the goose", 1000, Sampling(1.3, 5), 3)]
    decoder = StreamDecoder(shipped.tokenizer)
    assert visitor.generated(1) == "the goose" + "".join(decoder.push(i) for i in ids)
    heads = texts.locator(".wr-head")
    expect(heads.nth(0)).to_contain_text(f"1 · {tiny_checkpoint.name}")
    expect(heads.nth(0)).to_contain_text("temperature 0.5, top-k off, top-p off · 1,000 tokens")
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
        expect(texts.locator(".wr-told")).to_contain_text(f"rank {token.rank}, at temperature 0.8. Nothing is cut off.")
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
    row, told = rows(texts), texts.locator(".wr-told").text_content()
    visitor.fill("temperature", 0)  # what comes next follows the settings, what is written keeps its own
    texts.locator(".wr-token").first.hover()
    expect(texts).to_have_attribute("data-place", "0")
    assert (rows(texts), texts.locator(".wr-told").text_content()) == (row, told)
    visitor.page.mouse.move(0, 0)
    expect(texts.locator(".wr-told")).to_have_text("What comes next? Temperature 0 takes the likeliest.")
    expect(texts.locator(".wr-place tbody tr").first.locator("td").last).to_have_text("100.0 %")


def test_step_by_step_with_choices_of_ones_own(visitor, texts, tiny_checkpoint):
    visitor.at("step-by-step").click()
    expect(texts.locator(".wr-place tbody tr")).to_have_count(8)
    assert visitor.generated() == "the goose"
    expect(texts.locator(".wr-state")).to_have_text("Ready: press One token, or choose one below.")
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
        expect(texts.get_by_label("or type it")).to_have_value(typed)
    expect(texts).to_have_attribute("data-kept", "1")
    texts.get_by_label("or type it").fill("the cat")
    texts.get_by_label("or type it").press("Enter")
    begin = before[: len("the goose") + 3] + "the cat"
    visitor.until(lambda: visitor.generated().startswith(begin), "what was typed stands there")
    expect(texts.locator(".wr-state")).to_have_text("Written.")
    assert len(visitor.generated()) == len(before)
    expect(texts.locator(".wr-chosen")).to_have_count(7)
    visitor.expect_nothing_run()


def test_the_head_says_that_the_settings_changed(visitor, texts):
    write(visitor, texts)
    head = texts.locator(".wr-head")
    visitor.fill("temperature", 1.5)
    texts.get_by_role("button", name="One token").click()
    expect(head).to_contain_text("temperature 0.8, top-k off, top-p off at first, changed on the way · 21 tokens")
    texts.locator(".wr-token").nth(20).hover()
    expect(texts.locator(".wr-told")).to_contain_text("at temperature 1.5.")
    texts.locator(".wr-token").nth(19).hover()
    expect(texts.locator(".wr-told")).to_contain_text("at temperature 0.8.")


def test_what_was_unlikely_is_coloured_on_demand(visitor, texts, tiny_checkpoint):
    write(visitor, texts)
    writer = Writer(tiny_checkpoint, "the goose", 0)
    uncut = [writer.draw(Sampling(0.8)).uncut for _ in range(20)]
    visitor.page.mouse.move(0, 0)

    def colours() -> list[str]:
        return texts.locator(".wr-token").evaluate_all("nodes => nodes.map((n) => getComputedStyle(n).backgroundColor)")

    assert len(set(colours()[:20])) == 1
    texts.get_by_label("colour what was unlikely").check()
    alphas = [float(re.search(r"/ ([\d.e-]+)\)", colour)[1]) for colour in colours()[:20]]
    assert alphas == pytest.approx([0.45 * (1 - p) for p in uncut], abs=0.01)


def test_a_long_prompt_leaves_the_text_in_sight(visitor, texts):
    visitor.fill("prompt", "the goose sat\n" * 40)
    write(visitor, texts)
    box, last = texts.locator(".wr-text").bounding_box(), texts.locator(".wr-token").nth(19).bounding_box()
    assert box["y"] <= last["y"] <= box["y"] + box["height"] - last["height"]


def test_on_a_small_screen_a_tap_brings_the_alternatives_into_sight(visitor, texts):
    visitor.page.set_viewport_size({"width": 390, "height": 700})
    write(visitor, texts)
    visitor.page.evaluate("scrollTo(0, 0)")
    texts.locator(".wr-token").first.click()
    expect(texts.locator(".wr-place tbody tr").first).to_be_in_viewport()
    expect(texts.locator(".wr-place tbody tr").last).to_be_in_viewport()
    expect(texts.locator(".wr-token").first).to_be_in_viewport()


def test_the_text_is_read_with_the_keyboard(visitor, texts):
    write(visitor, texts)
    texts.locator(".wr-caret").focus()
    for key, place in (("ArrowLeft", 19), ("ArrowUp", 18), ("ArrowRight", 19), ("ArrowDown", 20), ("ArrowRight", 20)):
        visitor.page.keyboard.press(key)
        expect(texts).to_have_attribute("data-place", str(place))
    visitor.page.keyboard.press("ArrowLeft")
    visitor.page.keyboard.press("Escape")
    expect(texts).to_have_attribute("data-place", "20")
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


def lose(route) -> None:
    route.fetch()  # the server does what it is asked for
    route.fulfill(body="null", content_type="application/json")


def test_an_answer_that_was_lost_is_asked_for_again(visitor, texts, tiny_checkpoint):
    write(visitor, texts)
    visitor.page.route("**/component_server/", lose)
    texts.get_by_role("button", name="Go on").click()
    expect(texts.locator(".wr-state")).to_have_text("The server did not answer: try again.")
    visitor.page.unroute("**/component_server/")
    texts.get_by_role("button", name="Go on").click()
    expect(texts.locator(".wr-state")).to_have_text("Written.")
    assert visitor.generated() == text_of(tiny_checkpoint, 40, Sampling(0.8))


@pytest.mark.parametrize("place", [5, 20], ids=["in the middle", "at the end"])
def test_a_choice_whose_answer_was_lost_is_there_once(visitor, texts, tiny_checkpoint, place):
    write(visitor, texts)
    first, writer = visitor.generated(), Writer(tiny_checkpoint, "the goose", 0)
    for _ in range(20):
        writer.draw(Sampling(0.8))
    offered = writer.tokens[place].alternatives if place < 20 else writer.ahead(Sampling(0.8))
    writer.choose(place, [int(offered.ids[3])], Sampling(0.8))
    texts.locator(".wr-token").nth(place).click()
    visitor.page.route("**/component_server/", lose)
    texts.locator(".wr-rows button").nth(3).click()
    expect(texts.locator(".wr-state")).to_have_text("The server did not answer: try again.")
    visitor.page.unroute("**/component_server/")
    assert visitor.generated() == first
    texts.locator(".wr-rows button").nth(3).click()
    expected = "the goose" + "".join(token.text for token in writer.tokens)
    visitor.until(lambda: visitor.generated().startswith(expected), "the choice stands there, once")
    expect(texts).to_have_attribute("data-writing", "false")
    texts.get_by_role("button", name="Go on").click()
    expect(texts.locator(".wr-state")).to_have_text("Written.")
    for _ in range(len(visitor.generated()) - len(expected)):
        writer.draw(Sampling(0.8))
    assert visitor.generated() == "the goose" + "".join(token.text for token in writer.tokens)
    expect(texts).to_have_attribute("data-kept", "2")


def test_what_comes_next_is_by_the_settings_of_now(visitor, texts):
    """Though the answer for those of a moment ago comes last."""
    write(visitor, texts)
    late = []
    visitor.page.route("**/component_server/", lambda route: route.continue_() if late else late.append(route))
    visitor.fill("temperature", 0)
    visitor.until(lambda: late, "the page asks by temperature 0")
    visitor.fill("temperature", 2)
    expect(texts.locator(".wr-told")).to_have_text("What comes next? Nothing is cut off.")
    warm = rows(texts)
    with visitor.page.expect_response("**/component_server/"):
        late[0].continue_()
    visitor.page.wait_for_timeout(300)
    assert rows(texts) == warm and warm[0][2] != "100.0 %"


def test_the_buttons_are_of_the_place_that_is_shown(visitor, texts, tiny_checkpoint):
    visitor.at("beside").get_by_role("checkbox").check()
    write(visitor, texts)
    first = visitor.generated(0)
    texts.locator(".wr-text").nth(0).locator(".wr-token").nth(3).click()
    texts.locator(".wr-text").nth(1).locator(".wr-token").nth(6).hover()
    button = texts.locator(".wr-rows tr:not(.wr-here) button").first
    button.focus()
    name = button.text_content()
    visitor.page.keyboard.press("Enter")
    expect(texts.locator(".wr-text").nth(1).locator(".wr-chosen")).to_have_count(1)
    chosen = texts.locator(".wr-text").nth(1).locator(".wr-token").nth(6).text_content()
    assert chosen.replace(" ", "·").replace("\n", "↵") == name
    assert visitor.generated(0) == first


def test_step_mode_is_done_with_the_keyboard_alone(visitor, texts):
    visitor.at("step-by-step").click()
    expect(texts.locator(".wr-rows tbody tr")).to_have_count(8)
    texts.get_by_role("button", name="One token").focus()
    for n in (1, 2, 3):
        visitor.page.keyboard.press("Enter")
        expect(texts).to_have_attribute("data-place", str(n))
        expect(texts).to_have_attribute("data-writing", "false")
    expect(texts.get_by_role("button", name="One token")).to_be_focused()
    texts.locator(".wr-rows button").nth(2).focus()
    for n in (4, 5):
        visitor.page.keyboard.press("Enter")
        expect(texts).to_have_attribute("data-place", str(n))
        expect(texts).to_have_attribute("data-writing", "false")
    expect(texts.locator(".wr-rows button").nth(2)).to_be_focused()
