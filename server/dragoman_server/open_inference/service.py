"""GRPCInferenceService: the Open Inference Protocol on the gRPC port."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator
from importlib.metadata import version
from typing import Any, cast

import grpc

from dragoman_protos.open_inference import open_inference_pb2, open_inference_pb2_grpc
from dragoman_server.errors import NotFound, Unavailable
from dragoman_server.gate import Gate
from dragoman_server.open_inference.answering import Answering
from dragoman_server.open_inference.offers import Tensor, offers_of
from dragoman_server.open_inference.questions import host_of, read
from dragoman_server.open_inference.streams import StreamCall
from dragoman_server.open_inference.tensors import write
from dragoman_server.security.principal import CALLER
from dragoman_server.service.mailbox import Mailbox
from dragoman_server.service.receipt import conclude
from dragoman_server.service.recipes import Recipes

_NAME = "dragoman"
_PLATFORM = "dragoman_onnxruntime"
_Context = grpc.aio.ServicerContext[Any, Any]
_Metadata = open_inference_pb2.ModelMetadataResponse


class OpenInferenceService(open_inference_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers as the proto says, by the engines that answer InferenceService."""

    def __init__(self, gate: Gate, recipes: Recipes, mailbox: Mailbox) -> None:
        self._gate = gate
        self._answering = Answering(recipes, mailbox)

    async def ServerLive(  # noqa: N802  (gRPC's name)
        self, request: open_inference_pb2.ServerLiveRequest, context: _Context
    ) -> open_inference_pb2.ServerLiveResponse:
        """The process answers."""
        return open_inference_pb2.ServerLiveResponse(live=True)

    async def ServerReady(  # noqa: N802  (gRPC's name)
        self, request: open_inference_pb2.ServerReadyRequest, context: _Context
    ) -> open_inference_pb2.ServerReadyResponse:
        """Whether requests are taken."""
        return open_inference_pb2.ServerReadyResponse(ready=self._gate.is_open)

    async def ModelReady(  # noqa: N802  (gRPC's name)
        self, request: open_inference_pb2.ModelReadyRequest, context: _Context
    ) -> open_inference_pb2.ModelReadyResponse:
        """Whether the model is served."""
        try:
            with self._gate.enter() as catalogue:
                host_of(catalogue, request.name, request.version, "name")
        except (NotFound, Unavailable):
            return open_inference_pb2.ModelReadyResponse(ready=False)
        return open_inference_pb2.ModelReadyResponse(ready=True)

    async def ServerMetadata(  # noqa: N802  (gRPC's name)
        self, request: open_inference_pb2.ServerMetadataRequest, context: _Context
    ) -> open_inference_pb2.ServerMetadataResponse:
        """The server's name and version."""
        return open_inference_pb2.ServerMetadataResponse(name=_NAME, version=version("dragoman"))

    async def ModelMetadata(  # noqa: N802  (gRPC's name)
        self, request: open_inference_pb2.ModelMetadataRequest, context: _Context
    ) -> open_inference_pb2.ModelMetadataResponse:
        """The model's tensors: those of its first task are needed, the others' outputs may be asked for."""
        with self._gate.enter() as catalogue:
            host = host_of(catalogue, request.name, request.version, "name")
            offers = offers_of(host)
            inputs = dict.fromkeys(one for offer in offers for one in offer.inputs)
            outputs = dict.fromkeys(one for offer in offers for one in offer.outputs)
            versions = (
                [host.version] if request.version else [one.version for one in catalogue if one.name == host.name]
            )
            return _Metadata(
                name=host.name,
                versions=versions,
                platform=_PLATFORM,
                inputs=map(_told, inputs),
                outputs=map(_told, outputs),
            )

    async def ModelInfer(  # noqa: N802  (gRPC's name)
        self, request: open_inference_pb2.ModelInferRequest, context: _Context
    ) -> open_inference_pb2.ModelInferResponse:
        """Answer some texts."""
        deadline = _deadline(context)
        with self._gate.enter() as catalogue:
            question = read(request, catalogue)
            CALLER.get().quota.charge(len(question.texts) - 1)  # the call itself is charged
            outputs, served, usage = await self._answering.answer(question, catalogue, question.until(deadline))
            assert served is not None, "the answer is whole"
            assert usage is not None, "the answer is whole"
            conclude(context, served, usage)
            response = question.response(request.id)
            write(response, outputs, raw=bool(request.raw_input_contents))
            return response

    async def ModelStreamInfer(  # noqa: N802  (gRPC's name)
        self, request_iterator: object, context: _Context
    ) -> AsyncGenerator[open_inference_pb2.ModelStreamInferResponse, None]:
        """Answer requests as they come."""
        requests = cast(AsyncIterator[open_inference_pb2.ModelInferRequest], request_iterator)
        with self._gate.attend():
            call = StreamCall(self._gate, self._answering, _deadline(context))
            async with contextlib.aclosing(call.answers(requests)) as answers:
                async for answer in answers:
                    yield answer


def _told(tensor: Tensor) -> open_inference_pb2.ModelMetadataResponse.TensorMetadata:
    return _Metadata.TensorMetadata(name=tensor.name, datatype=tensor.datatype.value, shape=tensor.shape)


def _deadline(context: _Context) -> float | None:
    remaining: float | None = context.time_remaining()
    return None if remaining is None else time.monotonic() + remaining
