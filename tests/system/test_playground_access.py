"""The playground for everybody: by keyboard alone, named for screen readers, at any width, in both themes."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.system.browser import Visit, visited
from tests.system.conftest import Served
from tests.system.texts import COFFEE

PANELS = ("translate", "generate", "understand", "attention")
WIDTHS = (360, 412, 768, 1280)

# Text that can be seen with less contrast than 4.5 to what it stands on (WCAG 2.2, success criterion 1.4.3).
_PALE = """() => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const rgba = (css) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = css;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b]
    .map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const under = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = rgba(getComputedStyle(at).backgroundColor);
      if (found[3] === 255) return found;
    }
    return [255, 255, 255];
  };
  const pale = [];
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data);
    const text = element.placeholder || own.join("").trim();
    if (!text || !element.checkVisibility({ checkOpacity: true })) continue;
    if (element.closest(".visually-hidden, :disabled")) continue;
    const [a, b] = [light(rgba(getComputedStyle(element).color)), light(under(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) pale.push(`${element.tagName}.${element.className}: ${text.slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return pale;
}"""

_NAMELESS = """() => [...document.querySelectorAll("button, input, select, textarea, canvas[tabindex], dialog")]
  .filter((element) => {
    const labels = [...(element.labels ?? [])].map((label) => label.textContent);
    if (element.tagName === "BUTTON") labels.push(element.textContent);
    const named = element.hasAttribute("aria-label") || element.hasAttribute("aria-labelledby");
    return element.checkVisibility() && !named && !labels.join("").trim();
  })
  .map((element) => element.outerHTML.slice(0, 80))"""


def fill(page: Page, panel: str) -> None:
    """Ask for something in a panel, and wait for the answer."""
    if panel == "translate":
        page.click("summary")
        page.fill("#translate-options-beam_size", "3")
        page.fill("#translate-options-num_hypotheses", "2")
        page.locator("#translate-examples button").nth(1).click()
        page.locator("#hypotheses li").first.wait_for()
        page.locator(".word").nth(7).click()
        page.locator("#alternatives [role=option]").first.wait_for()
    elif panel == "generate":
        page.fill("#generate-options-max_length", "20")
        page.locator("#generate-examples button").first.click()
        page.locator("#generate-receipt").wait_for()
    elif panel == "understand":
        for name, receipt in (("classify", "classify"), ("tag", "tag"), ("fill", "fill")):
            page.locator(f"#{name}-examples button").first.click()
            page.locator(f"#{receipt}-receipt").wait_for()
        page.locator("#spans .span").first.wait_for()
    else:
        page.get_by_role("button", name="Explain").click()
        page.locator("#explain-receipt").wait_for()


@pytest.mark.parametrize("panel", PANELS)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_can_be_read_and_controls_have_names(browser: Browser, served: Served, panel: str, dark: bool) -> None:
    with visited(browser, served.http, panel, dark=dark) as visit:
        page = visit.page
        assert page.evaluate(_PALE) == []
        assert page.evaluate(_NAMELESS) == []
        fill(page, panel)
        assert page.evaluate(_PALE) == []
        assert page.evaluate(_NAMELESS) == []
        assert visit.faults() == []


@pytest.mark.parametrize("panel", PANELS)
def test_nothing_is_wider_than_the_window(browser: Browser, served: Served, panel: str) -> None:
    with visited(browser, served.http, panel, width=WIDTHS[0], height=740) as visit:
        page = visit.page
        fill(page, panel)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 740})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert visit.faults() == []


@pytest.mark.parametrize("width", [360, 412])
def test_nothing_is_cut_off_on_a_phone(browser: Browser, served: Served, width: int) -> None:
    with visited(browser, served.http, "translate", width=width, height=740) as visit:
        page = visit.page
        for one in page.locator("#tabs [role=tab]").all():
            expect(one).to_be_in_viewport(ratio=1)
        fill(page, "translate")
        for one in page.locator("#alternatives [role=option]").all():
            expect(one).to_be_in_viewport(ratio=1)
        page.keyboard.press("Escape")
        page.locator("#tabs [role=tab]", has_text="Attention").click()
        fill(page, "attention")
        for place in ("#kinds [role=tab]", "#overview button"):
            for one in page.locator(place).all():
                one.scroll_into_view_if_needed()
                expect(one).to_be_in_viewport(ratio=1)
        for name in ("#tabs", "#kinds", "#overview"):
            assert page.locator(name).evaluate("element => element.scrollWidth <= element.clientWidth"), name
        assert visit.faults() == []


def test_errors_can_be_read(browser: Browser, served: Served) -> None:
    for dark in (False, True):
        with visited(browser, served.http, "translate", dark=dark) as visit:
            page = visit.page
            page.click("summary")
            page.fill("#translate-options-beam_size", "99")
            page.fill("#source", "One.")
            page.locator("#translate .field-error").wait_for()
            assert page.evaluate(_PALE) == []


def test_the_theme_is_the_systems_until_another_is_chosen(browser: Browser, served: Served) -> None:
    with visited(browser, served.http, "attention", dark=True) as visit:
        page = visit.page
        fill(page, "attention")

        def background() -> str:
            found: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
            return found

        def drawn() -> str:
            found: str = page.evaluate("document.getElementById('map').toDataURL()")
            return found

        dark, dark_map = background(), drawn()
        page.get_by_role("button", name="Theme: as the system").click()
        assert background() != dark
        assert drawn() != dark_map
        page.reload()
        page.get_by_role("button", name="Theme: light").click()
        assert background() == dark
        page.get_by_role("button", name="Theme: dark").click()
        expect(page.get_by_role("button", name="Theme: as the system")).to_be_focused()
        assert visit.faults() == []


def test_by_keyboard_alone(visit: Visit) -> None:
    page = visit.page

    def tab_to(selector: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
                # It can be seen where the focus is: on the element, or around the card that it fills.
                assert page.evaluate("""[document.activeElement, document.activeElement.closest(".card")]
                  .some((element) => element && getComputedStyle(element).outlineStyle === "solid")""")
                return
        raise AssertionError(f"Tab does not reach {selector}")

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    tab_to("#to")
    page.keyboard.type("German")
    tab_to("#source")
    page.keyboard.type(COFFEE)
    page.locator(".word").first.wait_for()
    tab_to(".word")
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    word = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    options = page.locator("#alternatives [role=option]")
    expect(options.first).to_be_focused()
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.textContent") == word
    page.keyboard.press("Enter")
    expect(options.first).to_be_focused()
    page.keyboard.press("ArrowDown")
    wanted = options.nth(1).locator(".word-offered").inner_text()
    page.keyboard.press("Enter")
    chosen = page.locator(".word.chosen")
    expect(chosen).to_have_text(wanted)
    expect(chosen).to_be_focused()
    # Said once it is there, and not word by word.
    expect(page.locator("#announcer")).to_have_text(re.compile(f"^Translation: .*{re.escape(wanted)}"))

    page.locator("#tab-translate").focus()
    for name in ("generate", "understand", "attention", "translate"):
        page.keyboard.press("ArrowRight")
        expect(page.locator(f"#{name}")).to_be_visible()
        expect(page.locator(f"#tab-{name}")).to_be_focused()
        expect(page.locator(f"#tab-{name}")).to_have_attribute("aria-selected", "true")
    assert page.locator("#tabs [role=tab][tabindex='0']").count() == 1
    page.keyboard.press("End")
    expect(page.locator("#attention")).to_be_visible()
    page.locator("#explain-text").focus()
    page.keyboard.press("Enter")
    page.locator("#overview button[aria-pressed=true]").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#which")).to_have_text("Translation to text, layer 1, head 2")


# The parts of the page that are plain functions.


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_read_whatever_their_pieces(visit: Visit, size: int) -> None:
    stream = ": a comment\ndata: one\n\nevent: error\r\ndata: {\r\ndata:  2}\r\n\r\ndata: grün 🦩\r\rdata: not ended"
    events = visit.page.evaluate(
        """async ([stream, size]) => {
          const { eventsOf } = await import("/playground/events.js");
          const bytes = new TextEncoder().encode(stream);
          const body = new ReadableStream({ start(controller) {
            for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.slice(at, at + size));
            controller.close();
          } });
          const found = [];
          for await (const each of eventsOf(body)) found.push([each.event, each.data]);
          return found;
        }""",
        [stream, size],
    )
    assert events == [["message", "one"], ["error", "{\n 2}"], ["message", "grün 🦩"]]


def test_places_count_code_points(visit: Visit) -> None:
    found = visit.page.evaluate("""async () => {
      const { joined, part, partsOf, words, wordsWithLinks } = await import("/playground/texts.js");
      const text = "🦩🦩 geht's? Ja -- wohl.";
      const segments = [
        { source_begin: 0, source_end: 2, target_begin: 0, target_end: 10 },
        { source_begin: 3, source_end: 5, target_begin: 11, target_end: 22 },
      ];
      const whole = partsOf("🦩! oh", text, segments);
      return {
        part: part(text, 3, 9),
        words: words(text).map(([begin, end]) => text.slice(begin, end)),
        parts: whole.parts.map((each) => [each.source, each.before, each.target]),
        joined: joined(whole) === text,
        links: wordsWithLinks(text, [[11, 13], [3, 9]]).map((place) => part(text, ...place)),
      };
    }""")
    assert found == {
        "part": "geht's",
        "words": ["🦩🦩", "geht's", "?", "Ja", "--", "wohl", "."],
        "parts": [["🦩!", "", "🦩🦩 geht's?"], ["oh", " ", "Ja -- wohl."]],
        "joined": True,
        "links": ["🦩🦩", "geht's", "?", "Ja", "--", "wohl."],
    }
