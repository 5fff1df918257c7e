"""A model that writes text, as it is being served: what translation and generation have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from dragoman_protos.v1 import inference_pb2
from dragoman_server.codec import Codec
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.first_answers import FirstAnswer, ask
from dragoman_server.model_host import ModelHost, RunningEngine
from dragoman_server.request import Completion, Outcome, Request


class DecodingEngine(RunningEngine, Protocol):
    """What decodes requests; see ``engine.Engine``."""

    def submit(self, request: Request) -> None:
        """Queue the request, from any thread, without blocking; raises Overloaded or Unavailable."""


@dataclass(frozen=True, kw_only=True)
class DecodingHost(ModelHost):
    """A loaded model that decodes one token after the other."""

    engine: DecodingEngine
    codec: Codec
    default_options: inference_pb2.DecodingOptions
    """The bundle's, checked: they hold where a request does not say otherwise."""

    @property
    def unknown_id(self) -> int | None:
        """The unknown token's id, where the model has one."""
        special = self.bundle.special_ids
        return special.unk if special.HasField("unk") else None

    @property
    def default_max_length(self) -> int:
        """Target tokens, for a request that does not say."""
        given = self.default_options.HasField("max_length")
        return self.default_options.max_length if given else self.bundle.limits.target_tokens

    def _first_answer(self, label: str, question: str, ids: Sequence[int], max_length: int) -> FirstAnswer:
        """Decode greedily from ``ids``, which stand for the question."""
        started = time.monotonic()
        options = DecodingOptions(max_length=max_length)

        def request(reply: Callable[[Outcome], None], deadline: float) -> Request:
            return Request(ids, options, reply, deadline=deadline)

        completion: Completion = ask(self.engine.submit, request)
        text = self.codec.decode(completion.best.token_ids)
        return FirstAnswer(label, question, text, seconds=time.monotonic() - started)
