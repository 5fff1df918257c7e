"""Cases of a small model, for tests of the proof of independence."""

from __future__ import annotations

import random
from collections.abc import Sequence

from dragoman_server.independence.cases import Case, Target, draw_cases
from tests.unit.server.toy_model import EOS, VOCABULARY


def text_of(ids: Sequence[int]) -> str:
    return "".join(f"{chr(ord('a') + token_id)}{token_id % 3}" for token_id in ids)


def cases(count: int = 20) -> list[Case]:
    chance = random.Random(7)
    sources = [(9, *chance.choices(range(4, 20), k=chance.randint(1, 9)), EOS) for _ in range(count)]
    return draw_cases(sources, Target(16, VOCABULARY, text_of), seed=3)
