"""Writes the tables of the kept JSON files into docs/benchmarks/README.md and docs/planning.md, between the markers."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import typer

from tests.bench.results import FOLDER

_MARKED = re.compile(r"(<!-- results: ([a-z_]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main(folder: Path = FOLDER) -> None:
    """Fill in what there is; a benchmark without a JSON file keeps what stands there."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    pictures = {path.stem for path in folder.glob("*.png")}
    for page in (folder / "README.md", folder.parent / "planning.md"):
        if page.is_file():
            page.write_text(filled(page.read_text(encoding="utf-8"), found, pictures), encoding="utf-8")
            print(f"{page}: {', '.join(found) or 'no results'}")


def filled(page: str, results: dict[str, dict[str, Any]], pictures: Collection[str] = ()) -> str:
    """The page with the tables of ``results`` (by benchmark) between its markers, and with the pictures there are."""
    return with_sections(
        page,
        {
            name: markdown(result) + (f"\n![{name}]({name}.png)\n" if name in pictures else "")
            for name, result in results.items()
            if "tables" in result
        },
    )


def with_sections(page: str, sections: Mapping[str, str]) -> str:
    """The page with each section between the markers of its name; markers of others keep what stands there."""

    def replace(match: re.Match[str]) -> str:
        section = sections.get(match[2])
        return match[0] if section is None else f"{match[1]}\n{section}\n{match[3]}"

    return _MARKED.sub(replace, page)


def markdown(result: dict[str, Any]) -> str:
    """Tables, notes, and where they were measured."""
    parts = []
    for table in result["tables"]:
        lines = [f"**{table['title']}**", ""]
        lines += [_row(table["columns"]), _row("---" for _ in table["columns"])]
        lines += [_row(row) for row in table["rows"]]
        parts.append("\n".join(lines))
    parts.append("\n".join(f"- {note}" for note in result["notes"]))
    machine, versions = result["machine"], result["versions"]
    instructions = ", ".join(machine["int8_instructions"] or []) or "no int8 instructions"
    known = ", ".join(f"{name} {version}" for name, version in versions.items())
    where = f"{machine['processor']}, {machine['cores']} cores ({instructions})"
    parts.append(f"{where}; {known}; {result['measured_at'][:10]}.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _row(cells: Any) -> str:
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


if __name__ == "__main__":
    typer.run(main)
