from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_server.repository import ModelVersion
from dragoman_server.version_policy import VersionPolicies, parse_policies


def chosen(policies: VersionPolicies, *references: str) -> list[str]:
    entries = [ModelVersion(name, int(version), Path()) for name, version in (r.split("@") for r in references)]
    entries.sort(key=lambda entry: (entry.name, -entry.version))
    return [f"{entry.name}@{entry.version}" for found in policies.chosen(entries).values() for entry in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("latest", ["a@10", "b@3"]),
        ("all", ["a@10", "a@9", "a@2", "b@3", "b@2"]),
        ("pinned:2", ["a@2", "b@2"]),
        ("pinned:3", ["b@3"]),
        ("a=pinned:9", ["a@9", "b@3"]),
        ("all, a=latest", ["a@10", "b@3", "b@2"]),
        ("b=all,pinned:9", ["a@9", "b@3", "b@2"]),
    ],
)
def test_what_is_chosen(text: str, expected: list[str]) -> None:
    assert chosen(parse_policies(text), "a@9", "a@10", "a@2", "b@2", "b@3") == expected


@pytest.mark.parametrize(
    "text", ["", "newest", "pinned", "pinned:0", "pinned:x", "A=all", "all,latest", "a=all,a=all", "="]
)
def test_what_is_no_policy(text: str) -> None:
    with pytest.raises(ValueError, match="latest, all or pinned:N"):
        parse_policies(text)


@given(st.sets(st.integers(1, 99), min_size=1), st.sampled_from(["latest", "all", "pinned:7"]))
def test_only_what_is_there_and_allowed_is_chosen(versions: set[int], text: str) -> None:
    policies = parse_policies(text)
    found = chosen(policies, *(f"a@{version}" for version in versions))
    numbers = [int(reference.partition("@")[2]) for reference in found]
    assert set(numbers) <= versions
    assert numbers == sorted(numbers, reverse=True)
    assert all(map(policies.of("a").allows, numbers))
    assert bool(numbers) == (text != "pinned:7" or 7 in versions)
