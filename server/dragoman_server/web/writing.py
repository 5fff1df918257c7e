"""Answers as JSON: large ones in a thread, so that other calls need not wait for them."""

from __future__ import annotations

import asyncio

from google.protobuf.message import Message

from dragoman_protos.v1 import inference_pb2
from dragoman_server.web.json_messages import Json, encoded, written

RECEIPT = "receipt"
"""Member of every answer, and of a stream's last event, that the message does not have."""
_LARGE_BYTES = 4096


def receipt_json(receipt: inference_pb2.Receipt | None) -> Json:
    """What an answer has beside its message."""
    return {} if receipt is None else {RECEIPT: written(receipt)}


async def written_apart(message: Message, more: Json) -> bytes:
    """The message's JSON with ``more`` members."""
    if message.ByteSize() <= _LARGE_BYTES:
        return _bytes(message, more)
    return await asyncio.to_thread(_bytes, message, more)


def _bytes(message: Message, more: Json) -> bytes:
    return encoded(written(message) | more)
