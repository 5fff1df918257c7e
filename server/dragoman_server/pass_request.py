"""One text that an encoder is to read, in flight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dragoman_server.errors import ServerError
from dragoman_server.pass_runtime import EncoderInput, EncoderOutput
from dragoman_server.submission import Receipt, Submission


@dataclass(frozen=True)
class PassCompletion:
    """What the model says of the text, and what its request went through: ``encode_ms`` is the pass, its one step."""

    output: EncoderOutput
    receipt: Receipt
    number: int
    """Which of its lane's passes it was, counted from 0."""


PassOutcome = PassCompletion | ServerError


@dataclass(eq=False)
class PassRequest(Submission[EncoderInput, PassCompletion]):
    """``options`` is all that the pass is given, ``source_ids`` its tokens."""

    @classmethod
    def of(
        cls,
        given: EncoderInput,
        reply: Callable[[PassOutcome], None],
        deadline: float | None = None,
        priority: int = 0,
    ) -> PassRequest:
        """A request to read ``given``."""
        return cls(given.ids, given, reply, deadline, priority)
