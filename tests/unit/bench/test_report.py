"""The page of results is filled from the JSON, and only between its markers."""

from __future__ import annotations

from typing import Any

from tests.bench.report import filled

PAGE = """# Head
<!-- results: speed -->
old
<!-- end -->
between
<!-- results: other -->
kept
<!-- end -->
tail
"""


def result() -> dict[str, Any]:
    return {
        "tables": [{"title": "Speed", "columns": ["model", "a|b"], "rows": [["base", "1.5"]]}],
        "notes": ["a note"],
        "machine": {"processor": "a processor", "cores": 2, "int8_instructions": ["avx512_vnni"]},
        "versions": {"python": "3.11.7"},
        "measured_at": "2026-01-02T03:04:05Z",
    }


def test_tables_stand_between_the_markers() -> None:
    page = filled(PAGE, {"speed": result()})
    assert "| model | a/b |\n| --- | --- |\n| base | 1.5 |\n" in page
    assert "- a note" in page
    assert "a processor, 2 cores (avx512_vnni); python 3.11.7; 2026-01-02." in page
    assert "old" not in page


def test_the_rest_stays() -> None:
    page = filled(PAGE, {"speed": result()})
    assert page.startswith("# Head\n<!-- results: speed -->\n")
    assert page.endswith("<!-- end -->\nbetween\n<!-- results: other -->\nkept\n<!-- end -->\ntail\n")


def test_filling_twice_changes_nothing() -> None:
    once = filled(PAGE, {"speed": result()}, {"speed"})
    assert filled(once, {"speed": result()}, {"speed"}) == once
    assert once.count("![speed](speed.png)") == 1


def test_without_results_nothing_changes() -> None:
    assert filled(PAGE, {}) == PAGE
