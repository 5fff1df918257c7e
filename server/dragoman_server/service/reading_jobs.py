"""A request to read texts without faults, on its way through the engine: a pass for each text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from dragoman_server.encoder_codec import Masked, Words
from dragoman_server.pass_request import PassCompletion, PassOutcome, PassRequest
from dragoman_server.pass_runtime import EncoderInput
from dragoman_server.service.gathering import Gathering
from dragoman_server.service.mailbox import Mailbox
from dragoman_server.submission import Receipt
from dragoman_server.understanding_host import UnderstandingHost

TextT_co = TypeVar("TextT_co", bound=Words | Masked | None, covariant=True)


@dataclass(frozen=True, slots=True)
class Reading(Generic[TextT_co]):
    """What to hand to which engine."""

    host: UnderstandingHost
    inputs: Sequence[EncoderInput]
    priority: int
    text: TextT_co
    """Where the words or the masks of the text stand, for requests that ask for them."""

    @property
    def tokens(self) -> int:
        """All that the model reads, special tokens included."""
        return sum(len(given.ids) for given in self.inputs)


def receipt_of(completions: Sequence[PassCompletion]) -> Receipt:
    """One receipt for all texts: the longest wait, the passes that they were read in, and how long those took.

    ``completions`` is not empty; ``batch_mean`` is the mean over these passes of the texts in them, others' included.
    """
    passes = {(completion.receipt.lane, completion.number): completion.receipt for completion in completions}
    return Receipt(
        queue_ms=max(completion.receipt.queue_ms for completion in completions),
        encode_ms=sum(receipt.encode_ms for receipt in passes.values()),
        steps=len(passes),
        batch_mean=sum(receipt.batch_mean for receipt in passes.values()) / len(passes),
        lane=completions[0].receipt.lane,
        arrived=min(completion.receipt.arrived for completion in completions),
    )


class ReadingJob(Gathering[PassRequest, PassCompletion]):
    """``completions`` are those of the inputs, in their order."""

    __slots__ = ("_deadline", "_reading")

    def __init__(
        self,
        reading: Reading[Words | Masked | None],
        deadline: float | None,
        mailbox: Mailbox,
        done: Callable[[], None],
    ) -> None:
        self._reading = reading
        self._deadline = deadline
        super().__init__(len(reading.inputs), mailbox, done)

    def _request(self, number: int, reply: Callable[[PassOutcome], None]) -> PassRequest:
        return PassRequest.of(self._reading.inputs[number], reply, self._deadline, self._reading.priority)

    def _submit(self, request: PassRequest) -> None:
        self._reading.host.engine.submit(request)
