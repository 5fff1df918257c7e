"""The texts of one translate_many that were read and not yet given out: bounded, in input order, without any I/O."""

from __future__ import annotations

from collections import deque

from dragoman import wire
from dragoman.errors import DragomanError
from dragoman.values import Translation
from dragoman_protos.v1 import inference_pb2

CONCURRENCY = 512
"""Texts under way at once, unless the caller says otherwise."""
_ITEMS = 32
_CHARACTERS = 64 << 10
"""In one message, unless a single text is longer."""

Answer = Translation | DragomanError


class Pending:
    """Holds at most ``size`` texts and answers together. Not thread-safe."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._requests: dict[int, inference_pb2.TranslateRequest] = {}
        """Unanswered, by id, in input order."""
        self._answers: dict[int, inference_pb2.TranslateOutcome | DragomanError] = {}
        self._unsent: deque[int] = deque()
        self._read = 0
        self._given = 0

    @property
    def full(self) -> bool:
        """Whether no text may be added."""
        return self._read - self._given >= self._size

    @property
    def empty(self) -> bool:
        """Whether every answer has been given out."""
        return self._read == self._given

    @property
    def unsent(self) -> bool:
        """Whether there is anything to send."""
        return bool(self._unsent)

    @property
    def unanswered(self) -> bool:
        """Whether the server owes an answer."""
        return bool(self._requests)

    @property
    def ready(self) -> bool:
        """Whether the next answer in input order is there."""
        return self._given in self._answers

    def add(self, item: inference_pb2.TranslateRequest | DragomanError) -> None:
        """Take in the next text, or what stands in its place."""
        if isinstance(item, DragomanError):
            self._answers[self._read] = item
        else:
            self._requests[self._read] = item
            self._unsent.append(self._read)
        self._read += 1

    def message(self) -> inference_pb2.TranslateManyRequest:
        """What there is to send, up to a message's size."""
        message = inference_pb2.TranslateManyRequest()
        characters = 0
        while self._unsent and len(message.items) < _ITEMS:
            request = self._requests[self._unsent[0]]
            characters += len(request.text)
            if message.items and characters > _CHARACTERS:
                break
            message.items.add(id=self._unsent.popleft(), request=request)
        return message

    def answer(self, response: inference_pb2.TranslateManyResponse) -> None:
        """Take in answers; those that nobody waits for are passed over."""
        for outcome in response.outcomes:
            if self._requests.pop(outcome.id, None) is not None:
                self._answers[outcome.id] = outcome

    def resend(self) -> None:
        """The stream broke: whatever has no answer is to be sent again."""
        self._unsent = deque(self._requests)

    def pop(self) -> Answer:
        """Give out the next answer, which is ready."""
        answer = self._answers.pop(self._given)
        self._given += 1
        return answer if isinstance(answer, DragomanError) else wire.outcome(answer)


def prepared(template: inference_pb2.TranslateRequest, text: object) -> inference_pb2.TranslateRequest | DragomanError:
    """What to add for a text: a request, or the error that stands for it."""
    if isinstance(text, DragomanError):
        return text
    try:
        return wire.with_text(template, text)
    except DragomanError as error:
        return error
