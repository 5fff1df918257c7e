"""Explain: what a model attends to, of a given answer or of the one that it gives greedily."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from dragoman_protos.v1 import inference_pb2
from dragoman_server.catalogue import Catalogue
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.decoding_host import DecodingHost
from dragoman_server.explaining.explainer import ExplainJob
from dragoman_server.explaining.graph import ExplainInput, Graph
from dragoman_server.model_host import ModelHost
from dragoman_server.request import Completion, Outcome, Receipt, Request
from dragoman_server.service.explain_response import explain_response
from dragoman_server.service.explain_validation import Subject, validate_explain
from dragoman_server.service.mailbox import Mailbox
from dragoman_server.service.recipes import Recipes

T = TypeVar("T")


class Explaining:
    """Answers Explain. ``most_bytes`` bounds an answer. Belongs to the event loop's thread."""

    def __init__(self, recipes: Recipes, mailbox: Mailbox, *, most_bytes: int) -> None:
        self._recipes = recipes
        self._mailbox = mailbox
        self._most_bytes = most_bytes

    async def answer(
        self, request: inference_pb2.ExplainRequest, catalogue: Catalogue, deadline: float | None
    ) -> tuple[inference_pb2.ExplainResponse, ModelHost, Receipt]:
        """The answer, the model, and its receipt: of the decoding, with the time in both queues as waiting, and
        the time that the attention took as encoding.

        Raises what ``validate_explain`` does, and what the engine or the explainer fail with.
        """
        subject = await asyncio.to_thread(
            validate_explain, request, catalogue, self._recipes, most_bytes=self._most_bytes
        )
        decoded = Receipt(queue_ms=0.0, encode_ms=0.0, steps=0, batch_mean=0.0, lane=0)
        if subject.greedy_from is not None:
            completion = await self._decoded(subject, deadline)
            decoded = completion.receipt
            await asyncio.to_thread(subject.continue_with, completion.best)
        response, job = await self._explained(subject, deadline)
        receipt = Receipt(
            queue_ms=decoded.queue_ms + job.waited_ms,
            encode_ms=decoded.encode_ms + job.computed_ms,
            steps=decoded.steps,
            batch_mean=decoded.batch_mean,
            lane=decoded.lane,
            arrived=decoded.arrived,
        )
        return response, subject.host, receipt

    async def _decoded(self, subject: Subject, deadline: float | None) -> Completion:
        """What the engine makes of it greedily."""
        host, ids = subject.host, subject.greedy_from
        assert isinstance(host, DecodingHost)
        assert ids is not None
        waiting: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        options = DecodingOptions(max_length=subject.new_tokens)
        request = Request(ids, options, self._replying(waiting), deadline, subject.priority)
        host.engine.submit(request)
        try:
            outcome = await waiting
        except asyncio.CancelledError:  # the caller cancelled or went away, or its deadline passed
            request.cancel()
            raise
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _explained(
        self, subject: Subject, deadline: float | None
    ) -> tuple[inference_pb2.ExplainResponse, ExplainJob[inference_pb2.ExplainResponse]]:
        waiting: asyncio.Future[inference_pb2.ExplainResponse | Exception] = asyncio.get_running_loop().create_future()
        job = ExplainJob(partial(_computed, subject), self._replying(waiting), deadline, subject.priority)
        subject.explainer.submit(job)
        try:
            outcome = await waiting
        except asyncio.CancelledError:
            job.cancel()
            raise
        if isinstance(outcome, Exception):
            raise outcome
        return outcome, job

    def _replying(self, waiting: asyncio.Future[T]) -> Callable[[T], None]:
        """For another thread to call with what is waited for."""

        def settle(outcome: T) -> None:
            if not waiting.done():  # the call may have ended meanwhile
                waiting.set_result(outcome)

        return lambda outcome: self._mailbox.post(partial(settle, outcome))


def _computed(subject: Subject, graph: Graph) -> inference_pb2.ExplainResponse:
    one = ExplainInput(
        source=[token.token_id for token in subject.source],
        target=[token.token_id for token in subject.target],
        segments=subject.segments,
    )
    (attention,) = graph.run([one])
    return explain_response(subject, attention, subject.codec)
