"""Nothing holds the event loop up: a real server says how it is at once, whatever it works on."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dragoman import Client, InvalidArgument, Overloaded
from tests.integration.server_process import SECONDS, ServerProcess

MODELS = Path(__file__).parents[2] / "models"
TEXT = "Nobody has seen the green bicycle that was left at the station. "
TOO_LONG = "a " * 20_000
"""Tokenised before it can be refused."""
CALLERS = 8


def test_health_is_told_at_once_while_models_work_and_come_and_go() -> None:
    over = threading.Event()
    with ServerProcess(MODELS, "--lanes", "2", "--max-rows", "32", "--admin") as server:
        address = server.wait_ready()

        def ask(number: int) -> int:
            asked = 0
            with Client(address, timeout=SECONDS) as client:
                while not over.is_set():
                    with contextlib.suppress(InvalidArgument, Overloaded):
                        client.translate(TEXT if number % 4 else TOO_LONG, target="de", beam_size=1 + number % 2)
                    asked += 1
            return asked

        def reload() -> int:
            changes = 0
            with Client(address, timeout=SECONDS) as client:
                while not over.is_set():
                    client.unload_model("intents")
                    client.load_model("intents")
                    changes += 1
            return changes

        seconds = []
        with ThreadPoolExecutor(CALLERS + 1) as callers:
            asked = [callers.submit(reload), *(callers.submit(ask, number) for number in range(CALLERS))]
            try:
                with grpc.insecure_channel(address) as channel:
                    health = health_pb2_grpc.HealthStub(channel)
                    for _ in range(400):
                        began = time.perf_counter()
                        answer = health.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
                        seconds.append(time.perf_counter() - began)
                        assert answer.status == health_pb2.HealthCheckResponse.SERVING
                        time.sleep(0.01)
            finally:
                over.set()
        assert all(future.result() for future in asked)
    seconds.sort()
    assert seconds[len(seconds) // 2] < 0.1, seconds
    assert seconds[-len(seconds) // 100] < 0.5, seconds  # 0.2 on two cores with a dozen programs
