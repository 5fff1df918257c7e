"""Whether an answer under load is the one that its request has alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError, Message

from dragoman.errors import InternalError
from dragoman.load.queries import Query

WRONG = "wrong-answer"
_TOLERANCE = 1e-3
"""Between two numbers of the same answer by a model that is not int8: other rows in its batch round otherwise."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it travelled; the fields of protobuf have one order, so that equal answers are equal bytes."""

    message: bytes
    tokens: int
    """Produced; of a text that was only read: read."""


class Expected:
    """The answers that requests have alone."""

    def __init__(self, precisions: Mapping[str, str]) -> None:
        """``precisions``: of each model by name. Answers of "int8" must be the same to the bit."""
        self._precisions = precisions
        self._alone: dict[Query, Answer] = {}

    def keep(self, query: Query, messages: Sequence[bytes]) -> None:
        """Take in what the query was answered with alone; raises InternalError for what is no answer."""
        message = whole(query, messages)
        if message is None:
            raise InternalError(f"{query.call.path} was answered with something that breaks the protocol")
        usage: Any = getattr(_parsed(query, message), "usage")  # noqa: B009  (each kind of answer has it)
        self._alone[query] = Answer(message, usage.target_tokens or usage.source_tokens)

    def tokens(self, query: Query) -> int:
        """Tokens of the query's answer."""
        return self._alone[query].tokens

    def fault(self, query: Query, messages: Sequence[bytes]) -> str | None:
        """WRONG, or None: the messages are the query's answer."""
        alone = self._alone[query].message
        try:
            found = whole(query, messages)
            if found == alone:
                return None
            if found is None:
                return WRONG
            one, other = _parsed(query, alone), _parsed(query, found)
        except DecodeError:
            return WRONG
        model = str(getattr(one, "model"))  # noqa: B009
        return None if self._precisions.get(model) != "int8" and _close(one, other) else WRONG


def whole(query: Query, messages: Sequence[bytes]) -> bytes | None:
    """The answer that a call's messages make up; None where they break the protocol.

    A stream's last chunk has it, and its text is what all chunks called final, joined.
    """
    if not messages:
        return None
    if query.call.chunk is None:
        return messages[0]
    chunks = [query.call.chunk.FromString(message) for message in messages]
    last = chunks[-1]
    if not last.HasField("response") or not last.response.hypotheses:
        return None
    text = "".join(chunk.final_text_delta for chunk in chunks)
    return last.response.SerializeToString() if text == last.response.hypotheses[0].text else None


def _parsed(query: Query, message: bytes) -> Message:
    return query.call.answer.FromString(message)


def _close(one: Any, other: Any) -> bool:
    """The same but for numbers that differ by rounding."""
    if isinstance(one, float):
        return math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    if isinstance(one, Message):
        mine, theirs = one.ListFields(), other.ListFields()
        same = [field.number for field, _ in mine] == [field.number for field, _ in theirs]
        return same and all(_close(a, b) for (_, a), (_, b) in zip(mine, theirs, strict=True))
    if isinstance(one, str | bytes | int):
        return bool(one == other)
    return len(one) == len(other) and all(_close(a, b) for a, b in zip(one, other, strict=True))
