"""The pictures of docs/playground.md, taken anew: ``python -m tests.system.screenshots``.

It needs Debian's Chromium, and Pillow, which matplotlib brings.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page

from tests.integration.server_process import ServerProcess
from tests.system.browser import opened_browser, visited
from tests.system.conftest import ROOT, http_address
from tests.system.programs import found
from tests.system.texts import COFFEE

FOLDER = ROOT / "docs" / "images" / "playground"


def main() -> None:
    """Serve the models that come with Dragoman, and take every picture."""
    program = found("chromium")
    if program is None:
        sys.exit("chromium is not there and could not be installed: as root, apt-get install chromium")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with ServerProcess(None, "--http-port", "0", folder=ROOT) as server, opened_browser(program) as browser:
        server.wait_ready()
        origin = http_address(server)
        take_translations(browser, origin)
        take_generation(browser, origin)
        take_understanding(browser, origin)
        take_attention(browser, origin)
        take_phones(browser, origin)


def take_translations(browser: Browser, origin: str) -> None:
    """A word's alternatives, and the options."""
    with visited(browser, origin, "translate", height=640) as visit:
        translate(visit.page)
        visit.page.locator(".word", has_text="meine").click()
        visit.page.locator("#alternatives [role=option]").first.wait_for()
        save(visit.page, "translate")
    with visited(browser, origin, "translate", dark=True) as visit:
        page = visit.page
        page.click("summary")
        page.fill("#translate-options-beam_size", "4")
        page.fill("#translate-options-num_hypotheses", "3")
        translate(page)
        page.locator("#hypotheses li").nth(1).wait_for()
        save(page, "options-dark", whole=True)


def take_generation(browser: Browser, origin: str) -> None:
    """A scene with its seed."""
    with visited(browser, origin, "generate") as visit:
        page = visit.page
        page.fill("#generate-options-seed", "11")
        page.locator("#generate-examples button").first.click()
        page.locator("#generate-receipt").wait_for()
        save(page, "generate", whole=True)


def take_understanding(browser: Browser, origin: str) -> None:
    """Labels, and what a mask hides."""
    with visited(browser, origin, "understand", height=700, dark=True) as visit:
        page = visit.page
        for name in ("classify", "fill"):
            page.locator(f"#{name}-examples button").first.click()
            page.locator(f"#{name}-receipt").wait_for()
        save(page, "understand-dark", whole=True)


def take_attention(browser: Browser, origin: str) -> None:
    """A translation head by head, in both themes."""
    for dark in (False, True):
        with visited(browser, origin, "attention", width=1060, dark=dark) as visit:
            explain(visit.page)
            save(visit.page, f"attention-{'dark' if dark else 'light'}", whole=True)


def take_phones(browser: Browser, origin: str) -> None:
    """The same on 360 pixels."""
    with visited(browser, origin, "translate", width=360, height=760, scale=2) as visit:
        translate(visit.page)
        visit.page.locator(".word", has_text="meine").click()
        visit.page.locator("#alternatives [role=option]").first.wait_for()
        save(visit.page, "phone-translate")
    with visited(browser, origin, "attention", width=360, height=760, scale=2, dark=True) as visit:
        explain(visit.page)
        visit.page.locator("#alignment").evaluate("element => element.scrollIntoView()")
        save(visit.page, "phone-attention")


def translate(page: Page) -> None:
    """The coffee, into German."""
    page.select_option("#to", "de")
    page.fill("#source", COFFEE)
    page.locator("#translate-receipt").wait_for()


def explain(page: Page) -> None:
    """The coffee, where the hot one comes from."""
    page.fill("#explain-text", COFFEE)
    for _ in range(2):  # the first request loads the graph
        with page.expect_response("**/v1/explain"):
            page.get_by_role("button", name="Explain").click()
        page.locator("#explain-receipt").wait_for()
    for _ in range(4):
        page.click("#step-on")


def save(page: Page, name: str, *, whole: bool = False) -> None:
    """What is seen; ``whole``: all of the page."""
    page.mouse.move(0, 0)
    page.evaluate("document.fonts.ready")
    taken = page.screenshot(full_page=whole, animations="disabled", caret="hide")
    picture = Image.open(io.BytesIO(taken)).convert("RGB")  # without the alpha that nothing needs
    path: Path = FOLDER / f"{name}.png"
    # Few colours, which are a third of the size; k-means keeps those of what is small, as the sign in the corner.
    few = picture.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}  {picture.width} x {picture.height}  {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
