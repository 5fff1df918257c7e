"""What goes wrong, told at the playground: a server that is down, a token that is missing, a quota that is used up.

Run by ``make test-system``. Chromium is Debian's package; see ``programs``.
"""

from __future__ import annotations

import json
from pathlib import Path

from playwright.sync_api import Browser, expect

from dragoman_server.security.tokens import digest, new_token
from tests.integration.server_process import ServerProcess
from tests.system.browser import visited
from tests.system.conftest import ROOT, http_address
from tests.system.texts import COFFEE, TWO


def test_a_server_that_is_down_is_said_to_be_and_tried_again(browser: Browser) -> None:
    with ServerProcess(None, "--http-port", "0", "--lanes", "1", folder=ROOT) as first:
        first.wait_ready()
        origin = http_address(first)
        with visited(browser, origin) as visit:
            page = visit.page
            visit.translate(COFFEE)
            text = page.locator("#translation").inner_text()
            first.process.kill()
            first.end()
            page.fill("#source", TWO)
            fault = page.locator("#translate-fault")
            expect(fault).to_contain_text("The server does not answer")
            expect(fault).to_have_attribute("role", "alert")
            expect(page.locator("#served")).to_have_text("No answer")
            page.fill("#source", COFFEE)
            port = origin.rpartition(":")[2]
            with ServerProcess(None, "--http-port", port, "--lanes", "1", folder=ROOT) as second:
                second.wait_ready()
                fault.get_by_role("button", name="Try again").click()
                expect(page.locator("#translation")).to_have_text(text)
                expect(fault).to_be_hidden()
                expect(page.locator("#served")).to_contain_text("Serving")


def test_a_token_is_asked_for_kept_for_the_tab_alone_and_its_quota_told(browser: Browser, tmp_path: Path) -> None:
    token = new_token()
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(f'[[tokens]]\nname = "web"\nsha256 = "{digest(token)}"\nrequests_per_minute = 5\n')
    options = ("--http-port", "0", "--lanes", "1", "--tokens", str(tokens))
    with ServerProcess(None, *options, folder=ROOT) as server:
        server.wait_ready()
        with visited(browser, http_address(server), ready=False) as visit:
            page = visit.page
            dialog = page.get_by_role("dialog", name="This server asks for a token")
            expect(dialog).to_be_visible()
            expect(page.locator("#token")).to_be_focused()
            page.keyboard.type("dgm_wrong")
            page.keyboard.press("Enter")
            expect(page.locator("#token-reason")).to_contain_text("does not know")
            page.fill("#token", "")
            page.get_by_role("button", name="Cancel").click()
            expect(page.locator("#start-fault")).to_contain_text("asks for a token")
            page.get_by_role("button", name="Try again").click()
            page.fill("#token", token)
            page.keyboard.press("Enter")
            expect(page.locator("#translate")).to_be_visible()
            assert page.evaluate("Object.values(sessionStorage)") == [token]
            elsewhere = page.evaluate("[Object.values(localStorage), document.cookie, location.href]")
            assert token not in json.dumps(elsewhere)
            page.select_option("#to", "de")
            for text in ("One.", "Two.", "Three.", "Four.", "Five.", "Six.", "Seven.", "Eight."):
                page.fill("#source", text)
                page.locator("#translation .word, #translate-fault:visible button").first.wait_for()
                if page.locator("#translate-fault").is_visible():
                    break
                page.fill("#source", "")
                expect(page.locator("#translation .word")).to_have_count(0)
            expect(page.locator("#translate-fault")).to_contain_text("The server is busy")
            again = page.locator("#translate-fault button")
            expect(again).to_contain_text("Try again in")
            expect(again).to_be_enabled()  # once the time is over
            again.click()
            page.locator("#translation .word").first.wait_for()
            assert visit.faults() == []
