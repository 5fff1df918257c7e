"""Connections that break, and several servers behind one client: what is tried elsewhere, and what is a typed error."""

from __future__ import annotations

import json
import threading
from typing import Any

import grpc
import pytest

import dragoman
from dragoman.connection import connection
from tests.unit.client.conftest import FakeServer, Invoke, reversal, reverse
from tests.unit.client.tcp_proxy import tcp_proxy

WAIT = 30.0


def test_a_connection_that_breaks_in_mid_stream_is_a_typed_error(fake: FakeServer) -> None:
    go_on = threading.Event()
    fake.between_chunks = lambda number, context: number == 1 and go_on.wait(WAIT)
    with tcp_proxy(fake.address) as proxy, dragoman.Client(proxy.address) as client:
        chunks = client.stream_translate("abcdef", target="de")
        received = [next(chunks), next(chunks)]
        proxy.reset()
        with pytest.raises(dragoman.Unavailable):
            list(chunks)
        go_on.set()
    assert "".join(chunk.final_text for chunk in received).startswith("f")
    assert len(fake.requests) == 1  # what has begun is not begun again


async def test_a_connection_that_breaks_in_mid_stream_is_a_typed_error_async(fake: FakeServer) -> None:
    go_on = threading.Event()
    fake.between_chunks = lambda number, context: number == 1 and go_on.wait(WAIT)
    with tcp_proxy(fake.address) as proxy:
        async with dragoman.AsyncClient(proxy.address) as client:
            chunks = client.stream_translate("abcdef", target="de")
            await anext(chunks)
            await anext(chunks)
            proxy.reset()
            with pytest.raises(dragoman.Unavailable):
                async for _ in chunks:
                    pass
            go_on.set()
    assert len(fake.requests) == 1


def test_a_unary_call_whose_connection_breaks_is_made_again(fake: FakeServer, invoke: Invoke) -> None:
    with tcp_proxy(fake.address) as proxy:

        def answer(request: Any, context: Any) -> Any:
            if len(fake.requests) == 1:
                proxy.reset()
                over = threading.Event()
                context.add_callback(over.set)
                over.wait(WAIT)
            return reverse(request, context)

        fake.answer = answer
        assert invoke(proxy.address, "translate", "ab", target="de").text == "ba"
    assert len(fake.requests) == 2


def test_a_replica_that_dies_under_a_call_is_gone_round(fake: FakeServer, second: FakeServer, invoke: Invoke) -> None:
    with tcp_proxy(fake.address) as proxy:

        def die(request: Any, context: Any) -> Any:
            proxy.refuse()
            return reversal(request.text)

        fake.answer = die
        for _ in range(4):
            assert invoke([proxy.address, second.address], "translate", "ab", target="de").text == "ba"


BUDGETED = dragoman.Retry(budget=6, initial_backoff=0.001, max_backoff=0.002)


def down(request: Any, context: Any) -> Any:
    context.abort(grpc.StatusCode.UNAVAILABLE, "down")


def test_the_calls_of_a_client_share_its_budget(fake: FakeServer) -> None:
    fake.answer = down
    with dragoman.Client(fake.address, retry=BUDGETED) as client:
        for requests in (3, 4, 5):  # after three failures half of it is left
            with pytest.raises(dragoman.Unavailable):
                client.translate("a", target="de")
            assert len(fake.requests) == requests
        with pytest.raises(dragoman.Unavailable):
            list(client.stream_translate("a", target="de"))
        assert len(fake.requests) == 6


async def test_the_calls_of_a_client_share_its_budget_async(fake: FakeServer) -> None:
    fake.answer = down
    async with dragoman.AsyncClient(fake.address, retry=BUDGETED) as client:
        for requests in (3, 4, 5):
            with pytest.raises(dragoman.Unavailable):
                await client.translate("a", target="de")
            assert len(fake.requests) == requests
        fake.answer = reverse
        for _ in range(40):
            await client.translate("a", target="de")
        fake.answer = down
        before = len(fake.requests)
        with pytest.raises(dragoman.Unavailable):
            await client.translate("a", target="de")
        assert len(fake.requests) == before + 2


@pytest.mark.parametrize(
    ("address", "watched"),
    [
        ("localhost:50051", False),
        ("192.0.2.1:50051", False),
        ("unix:/run/dragoman", False),
        ("models.example:50051", True),  # may stand for many
        (["127.0.0.1:1", "127.0.0.1:2"], True),
    ],
)
def test_servers_that_may_be_many_are_watched(address: str | list[str], watched: bool) -> None:
    config = json.loads(str(dict(connection(address, None, False).options)["grpc.service_config"]))
    assert ("healthCheckConfig" in config) is watched
    assert config["loadBalancingConfig"] == [{"round_robin": {}}]
