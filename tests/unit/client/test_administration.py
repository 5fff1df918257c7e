"""Loading and unloading, by both clients and on the command line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from dragoman import FailedPrecondition, InvalidArgument
from dragoman.cli.main import app
from dragoman_protos.v1 import models_pb2
from tests.unit.client.conftest import FakeServer, Invoke


def run(*args: str) -> Any:
    return CliRunner().invoke(app, list(args))


@pytest.mark.parametrize(("version", "sent"), [(None, ""), (7, "7"), ("7", "7")])
def test_what_is_sent(fake: FakeServer, invoke: Invoke, version: object, sent: str) -> None:
    fake.served.models.add(name="a", version="7", state=models_pb2.Model.STATE_READY)
    (model,) = invoke(fake.address, "load_model", "a", version=version)
    assert (model.name, model.version, model.state) == ("a", "7", "ready")
    assert invoke(fake.address, "unload_model", "a", version=version) is None
    assert fake.asked == [
        models_pb2.LoadModelRequest(name="a", version=sent),
        models_pb2.UnloadModelRequest(name="a", version=sent),
    ]


def test_what_cannot_be_loaded(fake: FakeServer, invoke: Invoke) -> None:
    with pytest.raises(FailedPrecondition, match="a: missing\nb: missing"):
        invoke(fake.address, "load_model", "a", version=1)
    with pytest.raises(InvalidArgument) as refused:
        invoke(fake.address, "load_model", 3, version=1.5)
    assert [violation.field for violation in refused.value.violations] == ["name", "version"]


def test_states_are_listed(fake: FakeServer, invoke: Invoke) -> None:
    fake.served.models.add(name="a", version="2", state=models_pb2.Model.STATE_FAILED, failure="why")
    fake.served.models.add(name="a", version="1", lanes=2, max_rows=3)  # a server that tells no states
    assert [(m.version, m.state, m.failure) for m in invoke(fake.address, "models")] == [
        ("2", "failed", "why"),
        ("1", "ready", ""),
    ]


def test_the_commands(fake: FakeServer) -> None:
    fake.served.models.add(name="a", version="2", lanes=1, max_rows=3, state=models_pb2.Model.STATE_READY)
    server = ("--server", fake.address)
    header, row = run("load-model", "a", *server).stdout.splitlines()
    assert (header.split()[-1], row.split()[:2], row.split()[-1]) == ("STATE", ["a", "2"], "ready")
    (record,) = json.loads(run("load-model", "a", "2", "--json", *server).stdout)
    assert (record["version"], record["state"]) == ("2", "ready")
    refused = run("load-model", "a", "1", *server)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.splitlines() == ["dragoman load-model: a: missing", "dragoman load-model: b: missing"]
    unloaded = run("unload-model", "a", "2", *server)
    assert (unloaded.exit_code, unloaded.stdout) == (0, "")
    assert fake.asked[-1] == models_pb2.UnloadModelRequest(name="a", version="2")
    fake.served.models[0].state, fake.served.models[0].failure = models_pb2.Model.STATE_FAILED, "no\nreason"
    assert run("models", *server).stdout.splitlines()[2:] == ["no", "reason"]
