"""The panel of attention: its weights, its words and its steps, for models of every family.

Run by ``make test-system``. Chromium is Debian's package; see ``programs``.
"""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from dragoman import Client
from tests.system.browser import Visit
from tests.system.texts import COFFEE


@pytest.mark.parametrize("visit", ["attention"], indirect=True)
def test_weights_are_those_of_the_api_and_reached_by_keyboard(visit: Visit, client: Client) -> None:
    page = visit.page
    page.fill("#explain-text", COFFEE)
    page.select_option("#explain-language", "de")
    page.get_by_role("button", name="Explain").click()
    expect(page.locator("#kinds [role=tab]")).to_have_count(3)
    found = client.explain(COFFEE, target="de")
    assert found.cross is not None
    layers, heads, queries, keys = found.cross.shape
    expect(page.locator("#overview td button")).to_have_count(layers * heads)
    page.locator("#overview td button").nth(heads + 2).click()  # layer 2, head 3
    expect(page.locator("#which")).to_have_text("Translation to text, layer 2, head 3")
    page.locator("#map").focus()
    for key in ("Home", "PageUp", "ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    expect(page.locator("#map-told")).to_contain_text(f"{found.cross[1, 2, 2][3]:.4f}")
    page.keyboard.press("End")
    page.keyboard.press("PageDown")
    expect(page.locator("#map-told")).to_contain_text(f"{found.cross[1, 2, queries - 1][keys - 1]:.4f}")
    box = page.locator("#map").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] - 20, box["y"] + box["height"] - 20)
    expect(page.locator("#map-told")).to_contain_text(f"{found.cross[1, 2, queries - 1][keys - 1]:.4f}")
    page.locator("#kinds [role=tab]").first.click()
    expect(page.locator("#which")).to_have_text("Text to text, layer 2, head 3")


def test_the_answer_of_another_panel_is_looked_into_and_played(visit: Visit, client: Client) -> None:
    page = visit.page
    visit.translate("Where is the station?")
    page.click("#look-inside")
    found = client.explain("Where is the station?", target="de")
    words = page.locator("#links .side-words").first.locator("button")
    expect(words.first).to_be_visible()
    source, target, weight = found.aligned_words()[-2]
    word = page.get_by_role("group", name="Text", exact=True).get_by_text(source, exact=True)
    word.focus()
    expect(page.locator("#linked")).to_contain_text(target)
    expect(page.locator("#linked")).to_contain_text(f"{100 * weight:.0f}%")
    assert page.locator("#links line.lit").count() >= 1
    page.keyboard.press("Enter")
    expect(page.get_by_role("group", name="Translation", exact=True).get_by_text(target, exact=True)).to_be_focused()
    steps = len(found.target_tokens)
    expect(page.locator("#step-told")).to_contain_text(f"Step 1 of {steps}")
    play = page.locator("#play")
    play.click()
    expect(play).to_have_text("Pause")
    expect(page.locator("#step-told")).to_contain_text(f"Step {steps} of {steps}")
    expect(play).to_have_text("Play")
    expect(page.locator("#stage .token.now")).to_have_text("the end")
    page.locator("#step").focus()
    page.keyboard.press("Home")
    expect(page.locator("#step-told")).to_contain_text(f"Step 1 of {steps}")
    expect(page.locator("#stage .token.now")).to_have_text(found.target_text.split()[0])


@pytest.mark.parametrize("visit", ["attention"], indirect=True)
@pytest.mark.parametrize(("name", "kind"), [("shakespeare", "Decoder to itself"), ("intents", "Text to text")])
def test_models_of_the_other_families_are_looked_into(visit: Visit, name: str, kind: str) -> None:
    page = visit.page
    page.select_option("#explain-model", f"{name}@1")
    page.fill("#explain-text", "It was")
    page.get_by_role("button", name="Explain").click()
    expect(page.locator("#which")).to_have_text(f"{kind}, mean of all heads")
    expect(page.locator("#alignment")).to_be_hidden()
    page.click("#step-on")
    expect(page.locator("#step-told")).to_contain_text("most at")
    page.select_option("#explain-aggregation", "AGGREGATION_ROLLOUT")
    page.get_by_role("button", name="Explain").click()
    expect(page.locator("#overview td button")).to_have_count(1)
