"""The panel that translates: typing, streaming, other words, several hypotheses, swapping and copying.

Run by ``make test-system``. Chromium is Debian's package; see ``programs``.
"""

from __future__ import annotations

import re

from playwright.sync_api import expect

from dragoman import Client
from tests.system.browser import Visit
from tests.system.texts import COFFEE, TWO


def test_what_is_typed_is_translated_as_it_is_decoded(visit: Visit, client: Client) -> None:
    page = visit.page
    page.select_option("#to", "de")
    page.evaluate("""() => {
      globalThis.seen = [];
      const place = document.getElementById("translation");
      new MutationObserver(() => seen.push(place.textContent)).observe(place, { childList: true, subtree: true });
    }""")
    page.locator("#source").press_sequentially(COFFEE)
    expected = client.translate(COFFEE, target="de").text
    expect(page.locator("#translation")).to_have_text(expected)
    expect(page.locator("#translate-receipt")).to_contain_text("deu-eng version 1")
    # Typing goes on while requests run: fewer requests than letters, and each is what the box held then.
    texts = [body["text"] for body in visit.sent("/v1/translate/stream")]
    assert texts[-1] == COFFEE
    assert len(texts) < len(COFFEE)
    assert all(COFFEE.startswith(text) for text in texts)
    names = page.locator("#translate-receipt dt").all_inner_texts()
    told = "in the browser, first text, queue, encode, steps, batch, tokens, score, precision, model, lane"
    assert ", ".join(names) == told
    # Of several sentences, since one may be decoded at once on a busy machine.
    page.evaluate("seen = []")
    several = " ".join([COFFEE] * 12)
    page.fill("#source", several)
    expected = client.translate(several, target="de").text
    expect(page.locator("#translation")).to_have_text(expected)
    seen = page.evaluate("seen")
    assert any(text and expected.startswith(text) and text != expected for text in seen)


def test_what_may_still_change_is_grey(visit: Visit) -> None:
    page = visit.page
    page.click("summary")
    page.evaluate("""() => {
      globalThis.provisional = [];
      new MutationObserver(() => {
        const found = document.querySelector("#translation .provisional");
        if (found?.textContent) provisional.push(getComputedStyle(found).color);
      }).observe(document.getElementById("translation"), { childList: true, subtree: true });
    }""")
    page.fill("#translate-options-beam_size", "8")
    visit.translate(" ".join([TWO] * 6))
    soft = page.evaluate("getComputedStyle(document.querySelector('#translate-receipt dt')).color")
    assert set(page.evaluate("provisional")) == {soft}


def test_another_word_is_chosen_and_the_rest_decoded_again(visit: Visit, client: Client) -> None:
    page = visit.page
    visit.translate(COFFEE)
    first = page.locator("#translation").inner_text()
    page.locator(".word", has_text="meine").click()
    options = page.locator("#alternatives [role=option]")
    expect(options).to_have_count(6)
    prefix = first[: first.index(" meine")]
    found = client.translate(COFFEE, target="de", target_prefix=prefix, alternatives=6).hypotheses
    for i, hypothesis in enumerate(found):
        word = re.findall(r"\w+|[^\w\s]+", hypothesis.text[len(prefix) :])[0]
        expect(options.nth(i).locator(".word-offered")).to_have_text(word)
    expect(options.first).to_have_attribute("aria-selected", "true")
    wanted = next(i for i, each in enumerate(found) if each.text.startswith(f"{prefix} mir "))
    options.nth(wanted).click()
    expected = client.translate(COFFEE, target="de", target_prefix=f"{prefix} mir").text
    expect(page.locator(".word.chosen")).to_have_text("mir")
    expect(page.locator("#translation")).to_have_text(expected)
    assert visit.sent("/v1/translate/stream")[-1]["options"]["target_prefix"] == f"{prefix} mir"


def test_a_word_of_one_sentence_leaves_the_others_as_they_are(visit: Visit) -> None:
    page = visit.page
    visit.translate(f"{TWO}\n\n{COFFEE}")
    before = page.locator("#translation").inner_text()
    page.locator(".word[data-part='2']").nth(2).click()
    page.locator("#alternatives [role=option]").nth(1).click()
    expect(page.locator(".word.chosen")).to_have_attribute("data-part", "2")
    after = page.locator("#translation").inner_text()
    assert after != before
    kept = before[: before.index("\n\n") + 2]
    assert after.startswith(kept)
    assert visit.sent("/v1/translate")[-1]["text"] == COFFEE


def test_several_hypotheses_and_a_fault_at_its_field(visit: Visit) -> None:
    page = visit.page
    visit.translate(COFFEE)
    page.click("summary")
    page.fill("#translate-options-beam_size", "4")
    page.fill("#translate-options-num_hypotheses", "3")
    expect(page.locator("#hypotheses li")).to_have_count(2)
    page.fill("#translate-options-temperature", "99")
    for name in ("temperature", "beam_size"):  # sampling excludes a beam: all faults at once
        field = page.locator(f"#translate-options-{name}")
        expect(field).to_have_attribute("aria-invalid", "true")
        told = page.locator(f"#{field.get_attribute('aria-errormessage')}")
        expect(told).to_be_visible()
    expect(page.locator("#translate-fault")).to_contain_text("See the marked fields")
    page.get_by_role("button", name="Back to the defaults").first.click()
    expect(page.locator("#translate [aria-invalid]")).to_have_count(0)
    expect(page.locator("#translate-fault")).to_be_hidden()
    page.locator("#translation .word").first.wait_for()


def test_languages_are_swapped_and_the_text_with_them(visit: Visit) -> None:
    page = visit.page
    visit.translate("Where is the station?")
    german = page.locator("#translation").inner_text()
    page.click("#swap")
    expect(page.locator("#source")).to_have_value(german)
    expect(page.locator("#to")).to_have_value("en")
    expect(page.locator("#translation")).to_contain_text("station")
    page.click("#clear")
    expect(page.locator("#translation .word")).to_have_count(0)
    expect(page.locator("#translate-examples")).to_be_visible()


def test_the_translation_is_copied(visit: Visit) -> None:
    page = visit.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.translate(TWO)
    page.click("#copy")
    expect(page.locator("#copy")).to_have_text("Copied")
    copied: str = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.locator("#translation").inner_text()
