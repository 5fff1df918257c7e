"""People at the playground: a real Chromium and a real server, with the models that come with it and one that tags.

Run by ``make test-system``. Chromium is Debian's package; see ``programs``.
"""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from dragoman import Client
from tests.system.browser import Visit

COFFEE = "The coffee was so hot that I burned my tongue."
TWO = "It is raining. We are staying at home today."


# Translate


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


# Generate


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


# Understand


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


# Attention


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
