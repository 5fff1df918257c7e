"""What gRPC itself costs: a handler that does nothing, in a process of its own, and callers that want nothing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import psutil

from dragoman_server.event_loop import new_event_loop

_METHOD = "/dragoman.Floor/Echo"
_MESSAGE = bytes(200)
"""As large as a sentence with its options, or its answer."""


def call(callers: int, calls: int) -> tuple[float, float, float]:
    """So many calls by so many callers at one time: seconds, and processor time of this process and of the server's."""
    with _server() as (address, process):

        async def run() -> tuple[float, float, float]:
            async with grpc.aio.insecure_channel(address) as channel:
                echo = channel.unary_unary(_METHOD, request_serializer=None, response_deserializer=None)
                await echo(_MESSAGE)
                left = iter(range(calls))

                async def caller() -> None:
                    for _ in left:
                        await echo(_MESSAGE, timeout=60)

                began, own, served = time.perf_counter(), time.process_time(), _seconds(process)
                await asyncio.gather(*(caller() for _ in range(callers)))
                return time.perf_counter() - began, time.process_time() - own, _seconds(process) - served

        return asyncio.run(run())


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def _server() -> Iterator[tuple[str, psutil.Process]]:
    command = [sys.executable, "-m", __spec__.name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"127.0.0.1:{int(process.stdout.readline())}", psutil.Process(process.pid)
        finally:
            process.kill()


async def _serve() -> None:
    async def echo(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        return request

    service, method = _METHOD.strip("/").split("/")
    handler = grpc.unary_unary_rpc_method_handler(echo)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:  # the loop of ``dragoman serve``
        runner.run(_serve())
