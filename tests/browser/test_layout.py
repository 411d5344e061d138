"""Every tab, wide and narrow, light and dark: nothing sticks out, nothing is cut off. Screenshots are kept."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from playground.course import SECTIONS

pytestmark = pytest.mark.browser

TABS = ("Train", "Tokenizer", "Attention", "Generate", "Evaluate", "Learn", "Checkpoints")
SEE = {
    "Train": "chart",
    "Tokenizer": "tokens",
    "Attention": "heads",
    "Generate": "next-token",
    "Evaluate": "measure",
    "Learn": "course-words",
    "Checkpoints": "name",
}

# What stands further out than the page, or is wider inside than outside. A few things scroll or end in "…" on purpose.
STICKING_OUT = """() => {
  const kinds = "button, label, select, h1, h3, p, dt, dd, textarea, canvas, input, fieldset, .block";
  const places = ".am-scroll, .look-scroll, [role=grid], .visually-hidden, .overflow-menu, .label-wrap";
  const onPurpose = (node) => node.closest(places)
    || getComputedStyle(node).textOverflow === "ellipsis";
  const seen = [...document.querySelectorAll(kinds)]
    .filter((node) => node.checkVisibility({ visibilityProperty: true }) && !onPurpose(node));
  const outside = (node) => node.getBoundingClientRect().right > innerWidth + 1;
  const open = (node) => node.matches(".block") && getComputedStyle(node).overflowX === "visible";
  const overfull = (node) => node.clientWidth > 0 && node.scrollWidth > node.clientWidth + 1 && !open(node);
  const name = (node) => `${node.tagName} ${node.id} ${node.className} "${node.textContent.trim().slice(0, 40)}"`;
  return seen.filter((node) => outside(node) || overfull(node)).map(name);
}"""

# Red, green and blue together of what stands behind the heading.
PAPER = """() => {
  const colour = (node) => getComputedStyle(node).backgroundColor.match(/[\\d.]+/g).map(Number);
  let node = document.querySelector("h1");
  while (colour(node)[3] === 0) node = node.parentElement;
  return colour(node).slice(0, 3).reduce((sum, part) => sum + part);
}"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_tab_fits(new_visitor, tmp_path: Path, width: int, dark: bool):
    visitor = new_visitor(width=width, dark=dark)
    page = visitor.page
    assert page.evaluate("document.body.classList.contains('dark')") == dark
    assert (page.evaluate(PAPER) < 3 * 64) == dark
    for tab in TABS:
        visitor.open(tab)
        expect(visitor.at(SEE[tab])).to_be_visible()
        if tab == "Train":
            expect(visitor.own("life")).to_have_attribute("data-step", re.compile(r"\d"))
            visitor.unfold("model-settings")
            visitor.unfold("training-settings")
        if tab == "Tokenizer":
            expect(visitor.own("film").locator(".mf-body")).to_be_visible()
        if tab == "Attention":
            expect(visitor.own("heads").locator(".am-body")).to_be_visible()
        check_that_it_fits(visitor, tmp_path / f"{tab.lower()}.png")


@pytest.mark.parametrize("width", [1280, 390])
def test_every_section_of_the_course_fits(new_visitor, url: str, tmp_path: Path, width: int):
    visitor = new_visitor(width=width, url=f"{url}?tab=learn")
    for section in SECTIONS:
        visitor.own("course-words").locator(f".co-way [data-slug={section.slug}]").click()
        expect(visitor.own("course-code")).to_have_attribute("data-section", section.slug)
        expect(visitor.page.locator(f"#course .of-{section.slug}").first).to_be_visible()
        check_that_it_fits(visitor, tmp_path / f"{section.slug}.png")


def check_that_it_fits(visitor, screenshot: Path) -> None:
    visitor.page.screenshot(path=screenshot, full_page=True)
    assert visitor.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), screenshot.stem
    assert visitor.page.evaluate(STICKING_OUT) == [], screenshot.stem


def test_the_sticking_out_is_noticed(visitor):
    """The check above can fail: a button wider than the page, and one whose label is wider than itself."""
    visitor.page.evaluate("""() => {
      for (const style of ["width: 2000px", "width: 40px; white-space: nowrap"]) {
        const button = document.createElement("button");
        button.style = style;
        button.textContent = "a label that is far too long";
        document.body.append(button);
      }
    }""")
    assert len(visitor.page.evaluate(STICKING_OUT)) == 2
