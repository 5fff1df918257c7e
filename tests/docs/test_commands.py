"""Every command of the documentation is run, in a workplace with small data of our own; see ``workplace``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.workplace import ROOT, Workplace

ELSEWHERE = {"docs/models/deu-eng.md", "docs/http.md", "docs/planning.md"}
"""Run by tests/integration: test_shared_data.py, test_http_process.py and test_planning.py look at the answers, too."""
DRAWS = {"docs/attention.md"}
"""Trains three models and draws with them for minutes, however small they are; tests/unit/figures has the parts."""
NEEDS_GPU = {"docs/gpu.md"}
"""tests/gpu runs what these stand for, on a processor where there is no GPU."""
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for page in (ROOT / "README.md", *ROOT.glob("docs/**/*.md"))
    if "```sh\n" in page.read_text(encoding="utf-8")
    and page.relative_to(ROOT).as_posix() not in ELSEWHERE | DRAWS | NEEDS_GPU
)


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[Workplace]:
    made = Workplace(tmp_path)
    try:
        yield made
    finally:
        made.end()


@pytest.mark.parametrize("page", PAGES)
def test_commands_do_what_they_should(page: str, workplace: Workplace) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    if not re.search(r"\bserve\b", "".join(blocks)):
        workplace.run("dragoman serve")  # pages on clients take for granted that there is a server
    for block in blocks:
        done = workplace.run(block)
        assert done.returncode == 0, f"{page}:\n{block}\n{done.stdout[-3000:]}"
