"""A headless Chromium for tests and screenshots, and a visit to the playground that keeps what must not happen."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

PATIENCE_MS = 60_000

# Kept by the page itself: a violation is an event, whatever the console says of it.
_KEEP_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) => {
  (globalThis.violations ??= []).push(`${event.violatedDirective} ${event.blockedURI}`);
});
"""

# A status of 4xx and 5xx is an error on the console too; tests that ask for one look at the page instead.
_STATUS = "Failed to load resource"


@contextlib.contextmanager
def opened_browser(program: str) -> Iterator[Browser]:
    """One browser; every visit has a profile of its own in it."""
    with sync_playwright() as playwright:
        # Its sandbox needs what containers seldom give, and root has none. It visits nothing but a server of the test.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """A page that is open, and what has happened on it."""

    page: Page
    origin: str
    errors: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def watch(self) -> None:
        """Keep errors and requests from now on."""
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._asked)

    def translate(self, text: str, target: str = "de") -> None:
        """Type it into the panel that translates, and wait for the first words."""
        self.page.select_option("#to", target)
        self.page.fill("#source", text)
        self.page.locator("#translation .word").first.wait_for()

    def faults(self) -> list[str]:
        """Errors, violations of the policy, and requests to other origins."""
        elsewhere = [request.url for request in self.requests if _origin(request.url) not in (self.origin, "data://")]
        violations: list[str] = self.page.evaluate("globalThis.violations ?? []")
        return self.errors + violations + elsewhere

    def sent(self, path: str) -> list[Any]:
        """The bodies that were posted to a path."""
        return [
            request.post_data_json
            for request in self.requests
            if request.method == "POST" and urlsplit(request.url).path == path
        ]

    def _asked(self, request: Request) -> None:
        self.requests.append(request)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(_STATUS):
            self.errors.append(message.text)


@contextlib.contextmanager
def visited(
    browser: Browser,
    origin: str,
    panel: str = "",
    *,
    width: int = 1180,
    height: int = 820,
    dark: bool = False,
    scale: float = 1,
    ready: bool = True,
) -> Iterator[Visit]:
    """The playground at ``origin``, once it has shown its ``panel`` (the first, where none is named)."""
    with browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        device_scale_factor=scale,
        locale="en-GB",
        reduced_motion="reduce",
    ) as context:
        context.add_init_script(_KEEP_VIOLATIONS)
        context.set_default_timeout(PATIENCE_MS)
        visit = Visit(context.new_page(), origin)
        visit.watch()
        visit.page.goto(f"{origin}/#/{panel}")
        if ready:
            visit.page.locator("[role=tabpanel]:visible").first.wait_for()
        yield visit


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
