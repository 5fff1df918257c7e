"""Both clients and ``dragoman health`` ask a real server how it is."""

from __future__ import annotations

import asyncio

import pytest
from typer.testing import CliRunner

from dragoman import AsyncClient, Client, Health, InvalidArgument, NotFound, Unavailable
from dragoman.cli.main import app
from tests.contract.conftest import Harness

SERVICE = "dragoman.v1.InferenceService"


@pytest.mark.parametrize("service", ["", SERVICE, "inference.GRPCInferenceService"])
async def test_both_clients_are_told_the_same(starting: Harness, service: str) -> None:
    async with AsyncClient(starting.address) as asking:
        with Client(starting.address) as client:
            for expected in (Health.NOT_SERVING, Health.SERVING):
                assert await asking.health(service) is expected
                assert await asyncio.to_thread(client.health, service) is expected
                await starting.open()


async def test_what_cannot_be_asked(serving: Harness) -> None:
    async with AsyncClient(serving.address) as client:
        with pytest.raises(NotFound):
            await client.health("dragoman.v1.Nothing")
        with pytest.raises(InvalidArgument, match="service"):
            await client.health(b"x")  # type: ignore[arg-type]
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(Unavailable):
            await client.health(timeout=0.3)


async def test_the_command_says_it_by_its_exit_status(starting: Harness) -> None:
    for status, printed in ((1, "NOT_SERVING"), (0, "SERVING")):
        result = await asyncio.to_thread(CliRunner().invoke, app, ["health", "--server", starting.address])
        said = result.stdout.splitlines()[-1]  # the server, in the same process, logs there as well
        assert (result.exit_code, said) == (status, printed)
        await starting.open()
