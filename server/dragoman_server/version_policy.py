"""Which of a model's versions are served: the newest, a certain one, or all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dragoman_server.repository import ModelVersion

MODEL_NAME = "[a-z0-9][a-z0-9-]*"
MODEL_VERSION = "[1-9][0-9]{0,17}"
_RULE = re.compile(rf"(?:(?P<name>{MODEL_NAME})=)?(?P<policy>latest|all|pinned:(?P<pinned>{MODEL_VERSION}))")


@dataclass(frozen=True)
class VersionPolicy:
    """The policy for one model."""

    every: bool = False
    """All versions are served side by side; otherwise one at a time."""
    pinned: int | None = None
    """The only version that is served."""

    def allows(self, version: int) -> bool:
        """Whether the version may be served."""
        return self.pinned in (None, version)

    def chosen(self, entries: Sequence[ModelVersion]) -> list[ModelVersion]:
        """What is to be served of one model's versions, which are given with the newest first."""
        allowed = [entry for entry in entries if self.allows(entry.version)]
        return allowed if self.every else allowed[:1]


@dataclass(frozen=True)
class VersionPolicies:
    """The policy for each model: its own, or the one for all others."""

    others: VersionPolicy
    own: Mapping[str, VersionPolicy]

    def of(self, name: str) -> VersionPolicy:
        """The policy of the model of that name."""
        return self.own.get(name, self.others)

    def chosen(self, entries: Sequence[ModelVersion]) -> dict[str, list[ModelVersion]]:
        """What is to be served of each model; the newest version comes first of each."""
        versions: dict[str, list[ModelVersion]] = {}
        for entry in entries:
            versions.setdefault(entry.name, []).append(entry)
        return {name: self.of(name).chosen(found) for name, found in versions.items()}


def parse_policies(text: str) -> VersionPolicies:
    """Reads ``latest``, ``all`` or ``pinned:N``, and ``NAME=`` one of them for a model; several between commas.

    Raises ValueError.
    """
    own: dict[str | None, VersionPolicy] = {}
    for part in text.split(","):
        rule = _RULE.fullmatch(part.strip())
        if rule is None or rule["name"] in own:
            raise ValueError("latest, all or pinned:N, at most once for all models and once with NAME= for each")
        pinned = rule["pinned"]
        own[rule["name"]] = VersionPolicy(rule["policy"] == "all", None if pinned is None else int(pinned))
    others = own.pop(None, VersionPolicy())
    return VersionPolicies(others, {name: policy for name, policy in own.items() if name is not None})
