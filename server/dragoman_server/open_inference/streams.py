"""ModelStreamInfer: requests in, answers out as they are decoded, with a bounded number under way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

from dragoman_protos.open_inference import open_inference_pb2
from dragoman_protos.v1 import inference_pb2
from dragoman_server.errors import Unavailable
from dragoman_server.gate import Gate
from dragoman_server.open_inference.answering import Answering
from dragoman_server.open_inference.questions import read
from dragoman_server.open_inference.tensors import write
from dragoman_server.security.principal import CALLER
from dragoman_server.service.status import status_of
from dragoman_server.telemetry.calls import CALL

_AT_ONCE = 64
"""Requests of one call that are under way."""
_FINAL = "triton_final_response"
_Request = open_inference_pb2.ModelInferRequest
_Response = open_inference_pb2.ModelStreamInferResponse


class StreamCall:
    """One call; belongs to the event loop's thread.

    A reader that stands still holds up all requests of its call, at a bounded number of answers. When the gate closes,
    what is under way is answered, then the call ends with UNAVAILABLE.
    """

    def __init__(self, gate: Gate, answering: Answering, deadline: float | None) -> None:
        self._gate = gate
        self._answering = answering
        self._deadline = deadline
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._ready: asyncio.Queue[_Response | None] = asyncio.Queue(maxsize=1)
        """None: there are no more."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: Exception | None = None
        """What the call is to end with."""

    async def answers(self, requests: AsyncIterator[_Request]) -> AsyncGenerator[_Response, None]:
        """The answers; raises what the call fails with. What is under way is cancelled when this is closed."""
        reader = asyncio.create_task(self._read(requests))
        try:
            while (response := await self._ready.get()) is not None:
                yield response
            if self._error is not None:
                raise self._error
        finally:
            for task in (reader, *self._tasks):
                task.cancel()
            await asyncio.gather(reader, *self._tasks, return_exceptions=True)

    async def _read(self, requests: AsyncIterator[_Request]) -> None:
        closed = asyncio.ensure_future(self._gate.wait_closed())
        try:
            while True:
                await self._room.acquire()
                coming = asyncio.ensure_future(anext(requests))
                await asyncio.wait({coming, closed}, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    coming.cancel()
                    self._error = Unavailable("the server is shutting down")
                    break
                task = asyncio.create_task(self._answer(coming.result()))
                self._tasks.add(task)
                task.add_done_callback(self._ended)
        except StopAsyncIteration:
            pass
        except Exception as error:  # faults of a request are its answer: these are the call's
            self._error = error
        finally:
            closed.cancel()
        await asyncio.gather(*self._tasks)
        await self._ready.put(None)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.release()

    async def _answer(self, request: _Request) -> None:
        catalogue = self._gate.hold()
        try:
            CALLER.get().quota.charge()
            question = read(request, catalogue)
            CALLER.get().quota.charge(len(question.texts) - 1)
            parts = self._answering.parts(question, catalogue, question.until(self._deadline))
            async with contextlib.aclosing(parts):
                async for outputs, served, usage in parts:
                    response = question.response(request.id)
                    response.parameters[_FINAL].bool_param = served is not None
                    write(response, outputs, raw=bool(request.raw_input_contents))
                    await self._ready.put(_Response(infer_response=response))
                    if served is not None:
                        _count("OK", usage)
        except Exception as error:
            status = status_of(error)
            _count(status.code.name)
            response = open_inference_pb2.ModelInferResponse(model_name=request.model_name, id=request.id)
            response.parameters[_FINAL].bool_param = True
            message = f"{status.code.name}: {status.details}"
            await self._ready.put(_Response(error_message=message, infer_response=response))
        finally:
            self._gate.release(catalogue)


def _count(code: str, usage: inference_pb2.Usage | None = None) -> None:
    """A request is answered: whoever measures is told how, and what it used."""
    if (call := CALL.get()) is not None:
        call.items[code] = call.items.get(code, 0) + 1
        if usage is not None:
            call.source_tokens += usage.source_tokens
            call.target_tokens += usage.target_tokens
