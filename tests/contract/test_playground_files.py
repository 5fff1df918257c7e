"""The playground's files as the HTTP port gives them out: types, caching, policy, and nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from dragoman_server.catalogue import Catalogue
from dragoman_server.security.tokens import digest, new_token
from dragoman_server.server import DragomanServer
from dragoman_server.settings import Settings
from dragoman_server.web.headers import SAFE_HEADERS
from dragoman_server.web.playground_page import FOLDER, PAGE_POLICY
from tests.contract.conftest import FakeEngine, model

ROOT = Path(__file__).parents[2]
FILES = sorted(path.name for path in FOLDER.iterdir())
TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


class Page(HTMLParser):
    """What the page refers to, and what stands in it."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.ids: list[str] = []
        self.referred_ids: list[str] = []
        self.inline: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        for name, value in attrs:
            if name in ("src", "href"):
                self.references.append(value or "")
            elif name == "id":
                self.ids.append(value or "")
            elif name in ("for", "aria-controls", "aria-labelledby", "aria-describedby"):
                self.referred_ids.extend((value or "").split())
            elif name == "style" or name.startswith("on"):
                self.inline.append(f"{tag} {name}")

    def handle_data(self, data: str) -> None:
        if self._inside in ("script", "style") and data.strip():
            self.inline.append(f"{self._inside}: {data[:40]}")


def page() -> Page:
    parser = Page()
    parser.feed((FOLDER / "index.html").read_text(encoding="utf-8"))
    return parser


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Without a token, at a server that knows tokens."""
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(f'[[tokens]]\nname = "one"\nsha256 = "{digest(new_token())}"\n')
    server = DragomanServer(Settings(port=0, http_port=0, tokens=tokens))
    await server.start()
    try:
        await server.open(Catalogue([model(FakeEngine())], "deu-eng"))
        async with httpx.AsyncClient(base_url=server.http_url or "", timeout=20) as found:
            yield found
    finally:
        await server.drain(0)


async def test_the_page_is_for_everybody_under_a_strict_policy(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == PAGE_POLICY
    for rule in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'"):
        assert rule in PAGE_POLICY.split("; ")
    assert "unsafe" not in PAGE_POLICY
    assert (await client.get("/v1/models")).status_code == 401


async def test_every_file_has_its_type_and_the_headers_of_every_answer(client: httpx.AsyncClient) -> None:
    for name in FILES:
        if name == "index.html":
            continue
        answer = await client.get(f"/playground/{name}")
        assert answer.status_code == 200, name
        assert answer.content == (FOLDER / name).read_bytes()
        assert answer.headers["content-type"] == TYPES[Path(name).suffix]
        for header in ("x-content-type-options", "cross-origin-resource-policy", "content-security-policy"):
            assert answer.headers[header] == SAFE_HEADERS[header]


async def test_what_a_browser_has_already_is_not_sent_again(client: httpx.AsyncClient) -> None:
    for path in ("/", "/playground/main.js"):
        first = await client.get(path)
        assert first.headers["cache-control"] == "no-cache"
        tag = first.headers["etag"]
        for known in (tag, f'"other", W/{tag}'):
            again = await client.get(path, headers={"if-none-match": known})
            assert again.status_code == 304
            assert again.content == b""
            assert again.headers["etag"] == tag
        assert (await client.get(path, headers={"if-none-match": '"other"'})).status_code == 200
        head = await client.head(path)
        assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", tag)


async def test_nothing_else_is_there(client: httpx.AsyncClient) -> None:
    for path in ("", "/", "/index.html", "/..%2fapp.py", "/%2e%2e/app.py"):
        assert (await client.get(f"/playground{path}")).status_code == 404, path
    assert (await client.post("/")).status_code == 405


def test_nothing_stands_in_the_page_that_its_policy_forbids() -> None:
    assert page().inline == []


def test_the_page_refers_to_ids_that_are_there_once() -> None:
    found = page()
    assert len(found.ids) == len(set(found.ids))
    assert set(found.referred_ids) <= set(found.ids)


def test_every_id_that_a_script_names_is_in_the_page() -> None:
    ids = set(page().ids)
    for script in FOLDER.glob("*.js"):
        for name in re.findall(r'byId\("([^"]+)"\)', script.read_text(encoding="utf-8")):
            assert name in ids, f"{script.name}: {name}"


def test_every_file_is_used_and_every_file_that_is_used_is_there() -> None:
    used = {name.removeprefix("/playground/") for name in page().references if name.startswith("/playground/")}
    waiting = list(used)
    while waiting:
        path = FOLDER / waiting.pop()
        if path.suffix == ".js":
            imports = set(re.findall(r'from "\./([^"]+)"', path.read_text(encoding="utf-8")))
            waiting += imports - used
            used |= imports
    assert used | {"index.html"} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_no_file_asks_for_anything_of_another_origin(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    named = set(re.findall(r"https?://[^\s\"'<>)]+", text))
    # The name of SVG's elements, and where a standard can be read: neither is asked for.
    assert named <= {
        "http://www.w3.org/2000/svg",
        "https://html.spec.whatwg.org/multipage/server-sent-events.html,",
    }
    assert not re.search(r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function)", text)
    assert len(text.splitlines()) < 300
    if name.endswith(".js"):
        assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith((".js", ".css"))])
def test_every_file_stands_in_the_structure_page_with_its_own_first_line(name: str) -> None:
    line = (FOLDER / name).read_text(encoding="utf-8").splitlines()[0].removeprefix("/* ").removesuffix(" */")
    assert f"| `{name}` | {line} |" in (ROOT / "docs" / "structure.md").read_text(encoding="utf-8")
