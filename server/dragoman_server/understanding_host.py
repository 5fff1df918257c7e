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
_AFTER_MASK = " is the station?"


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
        """A sentence of our own for each task, cut to what the model takes: label, spans, what a mask hides, vector."""
        tasks: dict[Bundle.Task.ValueType, tuple[str, Callable[[], tuple[str, str]]]] = {
            Bundle.TASK_CLASSIFY: ("label", self._first_label),
            Bundle.TASK_TAG: ("spans", self._first_spans),
            Bundle.TASK_FILL_MASK: ("mask", self._first_filling),
            Bundle.TASK_EMBED: ("vector", self._first_vector),
        }
        answers = []
        for task, (label, first) in tasks.items():
            if self.does(task):
                started = time.monotonic()
                question, answer = first()
                answers.append(FirstAnswer(label, question, answer, seconds=time.monotonic() - started))
        return answers

    def _first_label(self) -> tuple[str, str]:
        texts = [_SENTENCE, _SECOND] if self.pairs else [_SENTENCE]
        around = len(texts) + 1
        texts = [self._fitting(text, (self.bundle.limits.source_tokens - around) // len(texts)) for text in texts]
        ids = self.codec.encode_batch(texts)
        output = self._read(self.codec.pair(*ids) if self.pairs else self.codec.single(*ids))
        best, *_ = readings.labels(output, self.bundle.classifier)
        return " | ".join(texts), f"{self.bundle.classifier.labels[best.number]} ({best.probability:.2f})"

    def _first_spans(self) -> tuple[str, str]:
        text = self._fitting(_SENTENCE, self._room)
        words = self.codec.words(text)
        spans = readings.spans(self._read(self.codec.single(words.ids)), words, self.bundle.tagger)
        return text, ", ".join(f"{text[span.begin : span.end]}: {span.tag}" for span in spans) or "no span"

    def _first_filling(self) -> tuple[str, str]:
        text = MASK + self._fitting(_AFTER_MASK, self._room - 1)
        masked = self.codec.masked(text)
        output = self._read(self.codec.with_masks(masked))
        best, *_ = readings.candidates(output, 0, 1, self.codec.special)
        return text, f"{self.codec.reads_in_place(best.number, masked, 0)} ({best.probability:.2f})"

    def _first_vector(self) -> tuple[str, str]:
        text = self._fitting(_SENTENCE, self._room)
        (ids,) = self.codec.encode_batch([text])
        vector = readings.embedding(self._read(self.codec.single(ids)), of_cls=False, normalise=True)
        return text, f"{len(vector)} numbers"

    @property
    def _room(self) -> int:
        """Tokens of one text between [CLS] and [SEP]."""
        return self.bundle.limits.source_tokens - 2

    def _fitting(self, text: str, room: int) -> str:
        """As much of the text's beginning as fits into so many tokens, be it nothing."""
        for end in range(len(text), 0, -1):
            (whole,) = self.codec.encode_batch([text[:end]])
            # A tagger reads the words, which may be another number of tokens than the text as a whole.
            if max(len(whole), len(self.codec.words(text[:end]).ids)) <= room:
                return text[:end]
        return ""

    def _read(self, given: EncoderInput) -> EncoderOutput:
        """Blocks; raises a ServerError when the engine fails, TimeoutError when it does not answer within a minute."""

        def request(reply: Callable[[PassOutcome], None], deadline: float) -> PassRequest:
            return PassRequest.of(given, reply, deadline)

        completion: PassCompletion = ask(self.engine.submit, request)
        return completion.output
