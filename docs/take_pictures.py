"""Takes the README's pictures, one of every tab, from the real page in Chromium: `make pictures`."""

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from playground.settings import Settings  # noqa: E402 - the project's root comes first
from playground.ui.page import TABS, build, launch, open_workspaces  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
ARGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
STARTS = {"Generate": "Generate", "Evaluate": "Measure"}  # the button of a tab that shows nothing by itself


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        workspaces = open_workspaces(Settings(data=Path(folder)))
        _, url, _ = launch(build(workspaces), workspaces, prevent_thread_lock=True, quiet=True)
        take_pictures(url)
        workspaces.close(seconds=60)


def take_pictures(url: str) -> None:
    PICTURES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(url)
        page.locator("#chart canvas").wait_for()
        for title in TABS:
            page.get_by_role("tab", name=title, exact=True).click()
            if title in STARTS:
                page.get_by_role("button", name=STARTS[title], exact=True).click()
            page.wait_for_timeout(4000)  # until what moves has come to rest
            page.screenshot(path=PICTURES / f"{title.lower()}.png", full_page=True)
        browser.close()


if __name__ == "__main__":
    main()
