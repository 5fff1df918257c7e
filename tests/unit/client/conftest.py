"""A server that answers as each test wants, on a real port, and both clients behind one way of calling."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import grpc
import pytest
import trustme

from dragoman import AsyncClient, Client, Retry
from dragoman_protos.v1 import inference_pb2, inference_pb2_grpc, models_pb2, models_pb2_grpc
from tests.unit.client.fake_families import FakeFamilies

Answer = Callable[[inference_pb2.TranslateRequest, grpc.ServicerContext], inference_pb2.TranslateResponse]

FAST = Retry(initial_backoff=0.001, max_backoff=0.002)


def reversal(text: str) -> inference_pb2.TranslateResponse:
    """The text backwards, in full dress."""
    best = inference_pb2.Hypothesis(
        text=text[::-1],
        tokens=list(text[::-1]),
        score=-0.5,
        token_log_probs=[-0.25, -0.25],
        finish_reason=inference_pb2.FINISH_REASON_STOP,
        rank_score=-0.125,
    )
    usage = inference_pb2.Usage(source_tokens=len(text) + 2, target_tokens=len(text) + 1)
    return inference_pb2.TranslateResponse(hypotheses=[best], usage=usage, model="deu-eng", model_version="1")


def reverse(request: inference_pb2.TranslateRequest, context: grpc.ServicerContext) -> inference_pb2.TranslateResponse:
    context.set_trailing_metadata((("dragoman-queue-ms", "1.5"), ("dragoman-steps", "7"), ("dragoman-lane", "0")))
    return reversal(request.text)


class ItemAborted(Exception):
    """One item of a stream is answered with an error."""

    def __init__(self, item: inference_pb2.ItemError) -> None:
        self.item = item


class ItemContext:
    """What an answer sees of a call, for one item of a stream."""

    def __init__(self, context: Any) -> None:
        self.add_callback = context.add_callback
        self.time_remaining = context.time_remaining
        self._trailing: tuple[tuple[str, str | bytes], ...] = ()

    def set_trailing_metadata(self, trailing: tuple[tuple[str, str | bytes], ...]) -> None:
        self._trailing = trailing

    def abort(self, code: grpc.StatusCode, details: str) -> None:
        item = inference_pb2.ItemError(code=code.value[0], message=details)
        for _, value in self._trailing:
            if isinstance(value, bytes):
                item.details.ParseFromString(value)
            else:
                item.retry_after_ms = int(value)
        raise ItemAborted(item)


class FakeServer(FakeFamilies, models_pb2_grpc.ModelServiceServicer):
    """Answers Translate through ``answer``, counts the calls under way, and keeps what it was sent."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        super().__init__()
        self.answer: Answer = reverse
        self.served = models_pb2.ListModelsResponse()
        self.bundles = models_pb2.GetModelResponse()
        self.requests: list[inference_pb2.TranslateRequest] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.peak = 0
        self.between_chunks: Callable[[int, Any], object] = lambda number, context: None
        self.break_after: int | None = None
        self.streams = 0
        self.messages: list[int] = []
        """Items of each message of a TranslateMany call."""
        self.scored: list[inference_pb2.ScoreRequest] = []
        self._workers = ThreadPoolExecutor(300)
        self._under_way = 0
        self._lock = threading.Lock()
        self.server = grpc.server(ThreadPoolExecutor(64), options=[("grpc.so_reuseport", 0)])
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(self, self.server)
        models_pb2_grpc.add_ModelServiceServicer_to_server(self, self.server)
        if credentials is None:
            self.port = self.server.add_insecure_port("127.0.0.1:0")
        else:
            self.port = self.server.add_secure_port("127.0.0.1:0", credentials)
        self.address = f"127.0.0.1:{self.port}"
        self.server.start()

    def Translate(self, request: inference_pb2.TranslateRequest, context: Any) -> inference_pb2.TranslateResponse:  # noqa: N802
        self.metadata.append(dict(context.invocation_metadata()))
        return self._answered(request, context)

    def _answered(self, request: inference_pb2.TranslateRequest, context: Any) -> inference_pb2.TranslateResponse:
        with self._lock:
            self.requests.append(request)
            self._under_way += 1
            self.peak = max(self.peak, self._under_way)
        try:
            return self.answer(request, context)
        finally:
            with self._lock:
                self._under_way -= 1

    def StreamTranslate(  # noqa: N802
        self, request: inference_pb2.TranslateRequest, context: Any
    ) -> Iterator[inference_pb2.TranslateChunk]:
        """The answer letter by letter, the rest provisional; then the answer."""
        response = self.Translate(request, context)
        text = response.hypotheses[0].text
        for i, letter in enumerate(text):
            yield inference_pb2.TranslateChunk(final_text_delta=letter, provisional_text=text[i + 1 :])
            self.between_chunks(i, context)
        yield inference_pb2.TranslateChunk(response=response)

    def TranslateMany(  # noqa: N802
        self, requests: Iterator[inference_pb2.TranslateManyRequest], context: Any
    ) -> Iterator[inference_pb2.TranslateManyResponse]:
        """Each item by itself, in threads; ``break_after`` so many answers the call fails."""
        with self._lock:
            self.streams += 1
        self.metadata.append(dict(context.invocation_metadata()))
        outcomes: queue.Queue[inference_pb2.TranslateOutcome | None] = queue.Queue()
        left = threading.Semaphore(0)

        def read() -> None:
            count = 0
            with contextlib.suppress(Exception):  # the call has ended
                for message in requests:
                    self.messages.append(len(message.items))
                    for item in message.items:
                        count += 1
                        self._workers.submit(self._item, item, context, outcomes.put, left.release)
            for _ in range(count):
                left.acquire()
            outcomes.put(None)

        threading.Thread(target=read, daemon=True).start()
        answered = 0
        while (outcome := outcomes.get()) is not None:
            if self.break_after is not None and answered == self.break_after:
                self.break_after = None
                context.abort(grpc.StatusCode.UNAVAILABLE, "the server is shutting down")
            answered += 1
            yield inference_pb2.TranslateManyResponse(outcomes=[outcome])

    def _item(
        self,
        item: inference_pb2.TranslateItem,
        context: Any,
        put: Callable[[inference_pb2.TranslateOutcome], None],
        done: Callable[[], None],
    ) -> None:
        of_item = ItemContext(context)
        try:
            response = self._answered(item.request, of_item)
            told = inference_pb2.Receipt(queue_ms=1.5, steps=7)
            put(inference_pb2.TranslateOutcome(id=item.id, response=response, receipt=told))
        except ItemAborted as error:
            put(inference_pb2.TranslateOutcome(id=item.id, error=error.item))
        finally:
            done()

    def Score(self, request: inference_pb2.ScoreRequest, context: Any) -> inference_pb2.ScoreResponse:  # noqa: N802
        """As likely as it is short."""
        self.scored.append(request)
        context.set_trailing_metadata((("dragoman-queue-ms", "1.5"),))
        if not request.target:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "nothing to score")
        log_probs = [-0.5] * (len(request.target) + 1)
        return inference_pb2.ScoreResponse(
            score=sum(log_probs),
            token_log_probs=log_probs,
            tokens=list(request.target),
            usage=inference_pb2.Usage(source_tokens=len(request.text) + 2, target_tokens=len(log_probs)),
            model="deu-eng",
            model_version="1",
        )

    def ListModels(self, request: models_pb2.ListModelsRequest, context: Any) -> models_pb2.ListModelsResponse:  # noqa: N802
        return self.served

    def GetModel(self, request: models_pb2.GetModelRequest, context: Any) -> models_pb2.GetModelResponse:  # noqa: N802
        if request.name not in {"", self.bundles.model.name}:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.name!r}")
        return self.bundles

    def LoadModel(self, request: models_pb2.LoadModelRequest, context: Any) -> models_pb2.LoadModelResponse:  # noqa: N802
        """There is a version 1 alone, which is faulty, and whatever "" stands for."""
        self.asked.append(request)
        if request.version == "1":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "a: missing\nb: missing")
        return models_pb2.LoadModelResponse(models=self.served.models)

    def UnloadModel(  # noqa: N802
        self, request: models_pb2.UnloadModelRequest, context: Any
    ) -> models_pb2.UnloadModelResponse:
        self.asked.append(request)
        return models_pb2.UnloadModelResponse()

    def stop(self) -> None:
        self.server.stop(None).wait()
        self._workers.shutdown(wait=False, cancel_futures=True)


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    server = FakeServer()
    yield server
    server.stop()


@pytest.fixture
def second() -> Iterator[FakeServer]:
    server = FakeServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Signs certificates for the time of the tests."""
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[FakeServer]:
    """A server with TLS; its certificate is for localhost."""
    issued = authority.issue_cert("localhost")
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    pair = (issued.private_key_pem.bytes(), chain)
    server = FakeServer(grpc.ssl_server_credentials([pair]))
    yield server
    server.stop()


class Invoke(Protocol):
    """Call one method of a fresh client and close it again."""

    def __call__(
        self, address: str | Sequence[str], method: str, *args: Any, options: dict[str, Any] | None = None, **named: Any
    ) -> Any: ...


def _invoke_sync(
    address: str | Sequence[str], method: str, *args: Any, options: dict[str, Any] | None = None, **named: Any
) -> Any:
    with Client(address, **{"retry": FAST, **(options or {})}) as client:
        result = getattr(client, method)(*args, **named)
        return list(result) if isinstance(result, Iterator) else result


def _invoke_async(
    address: str | Sequence[str], method: str, *args: Any, options: dict[str, Any] | None = None, **named: Any
) -> Any:
    async def run() -> Any:
        async with AsyncClient(address, **{"retry": FAST, **(options or {})}) as client:
            result = getattr(client, method)(*args, **named)
            if isinstance(result, AsyncIterator):
                return [item async for item in result]
            return await result

    return asyncio.run(run())


@pytest.fixture(params=[_invoke_sync, _invoke_async], ids=["Client", "AsyncClient"])
def invoke(request: pytest.FixtureRequest) -> Invoke:
    """Each test that asks for this runs once with either client: what holds for one holds for its twin."""
    return request.param  # type: ignore[no-any-return]
