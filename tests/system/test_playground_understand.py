"""The panel that understands: labels, tags and masks.

Run by ``make test-system``. Chromium is Debian's package; see ``programs``.
"""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from dragoman import Client
from tests.system.browser import Visit


@pytest.mark.parametrize("visit", ["understand"], indirect=True)
def test_a_text_is_classified(visit: Visit, client: Client) -> None:
    page = visit.page
    text = "move fifty euros to my savings"
    page.fill("#classify-text", text)
    rows = page.locator("#labels .bar-row")
    expect(rows).to_have_count(5)
    for i, label in enumerate(client.classify(text, model="intents").labels):
        expect(rows.nth(i).locator(".name")).to_have_text(label.label.replace("_", " "))
    width = rows.first.locator("i").evaluate("i => i.offsetWidth / i.parentElement.offsetWidth")
    assert 0.9 < width <= 1
    page.fill("#classify-text", "my keys swim in soup")
    expect(page.locator("#labels .note")).to_contain_text("none of the labels")


@pytest.mark.parametrize("visit", ["understand"], indirect=True)
def test_words_are_tagged_with_colour_and_name(visit: Visit, client: Client) -> None:
    page = visit.page
    text = "The grey heron 🦩 stands in the pond again."
    page.fill("#tag-text", text)
    expected = client.tag(text, model="tiny-tagger").spans
    assert expected
    spans = page.locator("#spans .span")
    expect(spans).to_have_count(len(expected))
    for i, span in enumerate(expected):
        expect(spans.nth(i)).to_have_text(f"{span.text}{span.tag}")
    border = "element => getComputedStyle(element).borderTopColor"
    colours = {span.tag: spans.nth(i).evaluate(border) for i, span in enumerate(expected)}
    assert len(set(colours.values())) == len(colours)


@pytest.mark.parametrize("visit", ["understand"], indirect=True)
def test_a_mask_is_filled(visit: Visit, client: Client) -> None:
    page = visit.page
    page.fill("#fill-text", "how is the weather today")
    expect(page.locator("#masks")).to_contain_text("write [MASK]")
    page.evaluate("document.getElementById('fill-text').setSelectionRange(11, 18)")
    page.click("#hide-word")
    expect(page.locator("#fill-text")).to_have_value("how is the [MASK] today")
    rows = page.locator("#masks button")
    expect(rows).to_have_count(5)
    best = client.fill_mask("how is the [MASK] today", model="intents").masks[0].candidates[0]
    expect(rows.first.locator(".name")).to_have_text(best.text.strip())
    rows.first.click()
    expect(page.locator("#fill-text")).to_have_value(f"how is the {best.text.strip()} today")
