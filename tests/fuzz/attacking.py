"""Attacks one after the other: what the server does, what it costs, and whether it answers others right after."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import structlog

from dragoman_protos.v1 import inference_pb2_grpc
from tests.fuzz.http2_attacks import ATTACKS, SOUND, Send
from tests.fuzz.http2_wire import wire
from tests.fuzz.judging import INSIDE
from tests.fuzz.served import OnPort, on_port, write_models

_MOST_GROWTH_MIB = 256
"""Of memory by one attack: the server's and the attacker's own, who share a process."""


@dataclass(frozen=True)
class Attack:
    """How one attack went."""

    name: str
    frames: int
    reaction: str
    answered_ms: float
    """What a sound call took right after it."""
    growth_mib: float
    faults: list[str] = field(default_factory=list)


async def attack(server: OnPort, send: Send) -> Attack:
    """One attack on a connection of its own, and a sound call on another after it."""
    memory = psutil.Process()
    before = memory.memory_info().rss
    faults = []
    async with wire(server.address) as to:
        await send(to)
        reaction = await to.listen()
    for _, text in reaction.statuses:
        if shown := INSIDE.search(text):
            faults.append(f"a status shows {shown.group()!r}: {text[:200]}")
    began = time.monotonic()
    stub = inference_pb2_grpc.InferenceServiceStub(server.channel)
    try:
        await stub.Translate(SOUND, timeout=30)
    except Exception as error:
        faults.append(f"a sound call fails after it: {error!r}")
    answered = (time.monotonic() - began) * 1e3
    faults += await server.idle_faults()
    growth = (memory.memory_info().rss - before) / (1 << 20)
    if growth > _MOST_GROWTH_MIB:
        faults.append(f"memory has grown by {growth:.0f} MiB")
    return Attack(send.__name__, to.sent, str(reaction), answered, growth, faults)


async def attack_all(root: Path, sends: Sequence[Send] = ATTACKS) -> list[Attack]:
    """Every attack, one after the other, on one server; ``root`` is an empty folder for its models."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    await asyncio.to_thread(write_models, root)
    async with on_port(root) as server:
        return [await attack(server, send) for send in sends]
