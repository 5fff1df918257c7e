"""A model that reads texts, as it is being served."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server import readings
from dragoman_server.encoder_codec import MASK, EncoderCodec
from dragoman_server.first_answers import FirstAnswer, ask
from dragoman_server.model_host import ModelHost, RunningEngine
from dragoman_server.pass_request import PassCompletion, PassOutcome, PassRequest
from dragoman_server.pass_runtime import EncoderInput, EncoderOutput

# Sentences of our own, for the first answers.
_SENTENCE = "Where is the station?"
_SECOND = "A train is waiting there."
_MASKED = f"Where is the {MASK}?"


class ReadingEngine(RunningEngine, Protocol):
    """What reads texts; see ``pass_engine.PassEngine``."""

    def submit(self, request: PassRequest) -> None:
        """Queue the request, from any thread, without blocking; raises Overloaded or Unavailable."""


@dataclass(frozen=True, kw_only=True)
class UnderstandingHost(ModelHost):
    """A loaded encoder."""

    engine: ReadingEngine
    codec: EncoderCodec

    @property
    def pairs(self) -> bool:
        """Whether it classifies pairs of texts."""
        return self.bundle.classifier.pairs

    def first_answers(self) -> list[FirstAnswer]:
        """A sentence of our own for each task: its label, its spans, what a mask hides, the length of its vector."""
        tasks: dict[Bundle.Task.ValueType, tuple[str, Callable[[], tuple[str, str]]]] = {
            Bundle.TASK_CLASSIFY: ("classifies", self._first_label),
            Bundle.TASK_TAG: ("tags", self._first_spans),
            Bundle.TASK_FILL_MASK: ("fills", self._first_filling),
            Bundle.TASK_EMBED: ("embeds", self._first_vector),
        }
        answers = []
        for task, (label, first) in tasks.items():
            if self.does(task):
                started = time.monotonic()
                question, answer = first()
                answers.append(FirstAnswer(label, question, answer, seconds=time.monotonic() - started))
        return answers

    def _first_label(self) -> tuple[str, str]:
        one, two = self.codec.encode_batch([_SENTENCE, _SECOND])
        output = self._read(self.codec.pair(one, two) if self.pairs else self.codec.single(one))
        best, *_ = readings.labels(output, self.bundle.classifier)
        question = f"{_SENTENCE} {_SECOND}" if self.pairs else _SENTENCE
        return question, f"{self.bundle.classifier.labels[best.number]} ({best.probability:.2f})"

    def _first_spans(self) -> tuple[str, str]:
        words = self.codec.words(_SENTENCE)
        spans = readings.spans(self._read(self.codec.single(words.ids)), words, self.bundle.tagger)
        return _SENTENCE, ", ".join(f"{_SENTENCE[span.begin : span.end]}: {span.tag}" for span in spans) or "no span"

    def _first_filling(self) -> tuple[str, str]:
        masked = self.codec.masked(_MASKED)
        output = self._read(self.codec.with_masks(masked))
        best, *_ = readings.candidates(output, 0, 1, self.codec.special)
        return _MASKED, f"{self.codec.reads_in_place(best.number, masked, 0)} ({best.probability:.2f})"

    def _first_vector(self) -> tuple[str, str]:
        (ids,) = self.codec.encode_batch([_SENTENCE])
        vector = readings.embedding(self._read(self.codec.single(ids)), of_cls=False, normalise=True)
        return _SENTENCE, f"{len(vector)} numbers"

    def _read(self, given: EncoderInput) -> EncoderOutput:
        """Blocks; raises a ServerError when the engine fails, TimeoutError when it does not answer within a minute."""

        def request(reply: Callable[[PassOutcome], None], deadline: float) -> PassRequest:
            return PassRequest.of(given, reply, deadline)

        completion: PassCompletion = ask(self.engine.submit, request)
        return completion.output
