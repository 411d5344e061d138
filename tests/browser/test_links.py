"""The page's address says what is looked at, so that a teacher can send it."""

import re
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


def address(visitor) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(visitor.page.url).query).items() if name != "__theme"}


def test_what_is_selected_stands_in_the_address_and_opens_from_it(visitor, new_visitor, shipped):
    visitor.open("Attention")
    heads = visitor.own("heads")
    expect(heads).to_have_attribute("data-model", re.compile(shipped.name))
    visitor.fill("attention-prompt", "Once & <b>upon</b>")
    visitor.page.get_by_role("button", name="Show attention").click()
    n_tokens = len(shipped.tokenizer.encode("Once & <b>upon</b>"))
    expect(heads.locator(".am-token")).to_have_count(n_tokens)
    heads.get_by_role("button", name="Layer 2, Head 3", exact=True).click()
    expect(heads).to_have_attribute("data-locked", "1,2")
    visitor.until(lambda: address(visitor).get("head") == "3", "the address followed")
    link = address(visitor)
    assert link == {
        "tab": "attention",
        "model": shipped.name,
        "prompt": "Once & <b>upon</b>",
        "layer": "2",
        "head": "3",
    }

    other = new_visitor(url=visitor.page.url)
    expect(other.page.get_by_role("tab", name="Attention", exact=True)).to_have_attribute("aria-selected", "true")
    expect(other.own("heads")).to_have_attribute("data-locked", "1,2")
    expect(other.own("heads")).to_have_attribute("data-shown", "1,2")
    expect(other.at("attention-prompt").locator("textarea")).to_have_value("Once & <b>upon</b>")
    expect(other.own("heads").locator(".am-token")).to_have_count(n_tokens)
    other.own("stages").locator("summary").click()
    expect(other.own("stages").locator(".hs-title")).to_have_text("Layer 2, Head 3")
    visitor.until(lambda: address(other) == link, "the address is the same")


def test_a_link_to_a_step_of_training(visitor, new_visitor, shipped):
    step = shipped.life.steps[20]
    expect(visitor.own("life")).to_have_attribute("data-step", str(shipped.step))
    visitor.own("life").get_by_label("Snapshots of the heads so far").fill("20")
    expect(visitor.own("chart")).to_have_attribute("data-marked", str(step))
    visitor.until(lambda: address(visitor).get("step") == str(step), "the address followed")
    assert address(visitor)["model"] == shipped.name
    other = new_visitor(url=visitor.page.url)
    expect(other.own("life")).to_have_attribute("data-step", str(step))
    expect(other.own("chart")).to_have_attribute("data-marked", str(step))


def test_a_link_takes_its_model_into_use_once(visitor, shipped, tiny_checkpoint):
    visitor.go(f"{visitor.page.url.split('?')[0]}?{urlencode({'tab': 'checkpoints', 'model': shipped.name})}")
    visitor.use(tiny_checkpoint)
    visitor.reload()
    visitor.expect_model(tiny_checkpoint.name)
    visitor.go(f"{visitor.page.url.split('?')[0]}?{urlencode({'model': shipped.name})}")
    visitor.expect_model(shipped.name)


def test_a_link_to_a_model_that_does_not_ship_says_so_once(visitor, shipped):
    visitor.go(f"{visitor.page.url.split('?')[0]}?{urlencode({'model': 'The <b>goose</b>'})}")
    visitor.expect_message("The model of this link, “The <b>goose</b>”, does not come with this page")
    visitor.expect_model(shipped.name)
    visitor.reload()
    visitor.expect_model(shipped.name)
    expect(visitor.page.get_by_test_id("toast-body")).to_have_count(0)


@pytest.mark.parametrize(
    "asked",
    [
        {"tab": "nowhere", "model": "Nobody's", "layer": "99", "head": "-1", "step": "-5"},
        {"tab": "attention", "prompt": "\u4e2d" * 3, "layer": "x", "head": "1e9", "step": "1e9"},
        {"tab": "<img src=x onerror=alert(1)>", "prompt": "", "layer": "0", "head": "0", "step": "<b>"},
    ],
)
def test_an_address_that_asks_for_what_is_not_there_opens_the_page(visitor, asked):
    visitor.go(f"{visitor.page.url.split('?')[0]}?{urlencode(asked)}")
    visitor.open("Attention")
    expect(visitor.own("heads")).to_have_attribute("data-painted", re.compile("[1-9]"))
    expect(visitor.own("heads")).to_have_attribute("data-locked", "-1,-1" if asked["layer"] == "0" else "0,0")
