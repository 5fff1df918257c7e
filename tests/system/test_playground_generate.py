"""The panel that generates: a text with its seed, and one that is stopped.

Run by ``make test-system``. Chromium is Debian's package; see ``programs``.
"""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from dragoman import Client
from tests.system.browser import Visit


@pytest.mark.parametrize("visit", ["generate"], indirect=True)
def test_a_text_is_generated_with_its_seed(visit: Visit, client: Client) -> None:
    page = visit.page
    page.fill("#prompt", "ROMEO:")
    page.fill("#generate-options-seed", "7")
    page.fill("#generate-options-max_length", "40")
    page.click("#go")
    expect(page.locator("#generate-receipt")).to_contain_text("shakespeare version 1")
    chunks = list(client.generate("ROMEO:", max_new_tokens=40, temperature=0.8, top_p=0.95, seed=7))
    assert page.locator("#generated .made").text_content() == chunks[-1].final_text
    expect(page.locator("#generated .given")).to_have_text("ROMEO:")
    page.fill("#generate-options-stop", "\\n")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#go")).to_be_enabled()
    assert visit.sent("/v1/generate")[-1]["options"]["stop"] == ["\n"]


@pytest.mark.parametrize("visit", ["generate"], indirect=True)
def test_a_long_text_is_stopped(visit: Visit) -> None:
    page = visit.page
    page.fill("#prompt", "KING:")
    page.fill("#generate-options-max_length", "60000")
    page.check("#slide")
    page.click("#go")
    expect(page.locator("#generated .made")).to_contain_text(re.compile(r"[\s\S]{100}"))
    page.click("#stop")
    expect(page.locator("#stop")).to_be_hidden()
    expect(page.locator("#go")).to_be_focused()
    shown = page.locator("#generated").text_content()
    # Another request is answered at once: the row is free, and nothing comes of the first one any more.
    page.fill("#generate-options-max_length", "5")
    page.click("#go")
    page.locator("#generate-receipt").wait_for()
    assert page.locator("#generated").text_content() != shown
    assert len(page.locator("#generated").text_content() or "") < 60
