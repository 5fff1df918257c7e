"""Whether a server takes requests: ``health`` of both clients, by gRPC's health checking protocol.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md. Its two messages have one field each and are, on the
wire, a wrapped string and a wrapped number: so the client needs no package for them.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from google.protobuf.wrappers_pb2 import StringValue, UInt32Value

from dragoman import wire
from dragoman.async_caller import AsyncCaller
from dragoman.caller import Caller
from dragoman.errors import InvalidArgument
from dragoman.faults import string_faults

_CHECK = "/grpc.health.v1.Health/Check"


class Health(Enum):
    """What a server says of itself, or of one of its services."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2


class HealthChecks(Caller):
    """The blocking client's part that asks for health; no token is needed."""

    def health(self, service: str = "", *, timeout: float | None = None) -> Health:
        """Whether the server takes requests; ``service`` is the full name of one of its services, "" for all.

        Raises NotFound for a service that it does not have, Unavailable where nobody answers.
        """
        return self._call(_method(self._channel), _request(service), timeout, _parsed)


class AsyncHealthChecks(AsyncCaller):
    """The asyncio client's part that asks for health."""

    async def health(self, service: str = "", *, timeout: float | None = None) -> Health:
        """As ``Client.health``."""
        return await self._call(_method(self._open()), _request(service), timeout, _parsed)


def _method(channel: Any) -> Any:  # of a blocking channel or one of asyncio, whose types share nothing
    return channel.unary_unary(
        _CHECK, request_serializer=StringValue.SerializeToString, response_deserializer=UInt32Value.FromString
    )


def _request(service: str) -> StringValue:
    """Raises InvalidArgument for what is no text."""
    if faults := string_faults("service", service):
        raise InvalidArgument(faults)
    return StringValue(value=service)


def _parsed(response: UInt32Value, trailing: wire.Metadata) -> Health:
    known = {health.value for health in Health}
    return Health(response.value) if response.value in known else Health.UNKNOWN
