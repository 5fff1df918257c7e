"""The documentation keeps up with the code."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("model/dragoman_model", "export/dragoman_export", "server/dragoman_server", "client/dragoman")


def modules() -> list[tuple[str, str]]:
    """Name within its room, and first docstring line, of every module that has one."""
    found = []
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
            if docstring:
                found.append((path.relative_to(ROOT / room).as_posix(), docstring.splitlines()[0]))
    return found


@pytest.mark.parametrize(("name", "line"), modules(), ids=lambda value: value if value.endswith(".py") else "")
def test_every_module_stands_in_the_structure_page_with_its_own_first_line(name: str, line: str) -> None:
    assert f"| `{name}` | {line.replace('|', '/')} |" in (ROOT / "docs" / "structure.md").read_text(encoding="utf-8")


def test_the_readme_lists_every_command() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in project["entry-points"]["dragoman.commands"]:
        assert f"| `dragoman {command}" in readme


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")], ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"
