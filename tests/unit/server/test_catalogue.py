from __future__ import annotations

from dataclasses import dataclass

import pytest

from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server.catalogue import Catalogue, abilities
from dragoman_server.errors import InvalidArgument, NotFound
from dragoman_server.first_answers import FirstAnswer
from dragoman_server.lanes import EngineState
from dragoman_server.model_host import ModelHost


class NoEngine:
    def start(self) -> None: ...

    def state(self) -> EngineState:
        raise AssertionError

    def stop(self, grace: float) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Reader(ModelHost):
    def first_answers(self) -> list[FirstAnswer]:
        return []


class Writer(Reader):
    """Another kind."""


def host(name: str, *tasks: Bundle.Task.ValueType, kind: type[Reader] = Reader) -> Reader:
    return kind(
        bundle=Bundle(name=name, tasks=tasks),
        version="1",
        engine=NoEngine(),
        precision="int8",
        provider="CPUExecutionProvider",
        lanes=1,
        max_rows=1,
        longest_text=100,
    )


TAG, EMBED, TRANSLATE = Bundle.TASK_TAG, Bundle.TASK_EMBED, Bundle.TASK_TRANSLATE
HOSTS = [host("c", TAG, EMBED), host("b", TAG), host("a", TRANSLATE, kind=Writer), host("d", EMBED)]


@pytest.mark.parametrize(
    ("default", "task", "found"),
    [("a", TAG, "b"), ("c", TAG, "c"), ("c", EMBED, "c"), ("d", TAG, "b"), ("d", EMBED, "d"), ("b", EMBED, "c")],
)
def test_no_name_means_the_default_or_the_first_that_can(default: str, task: Bundle.Task.ValueType, found: str) -> None:
    assert Catalogue(HOSTS, default).find("", Reader, task).name == found


def test_a_name_means_that_model_or_what_it_can_do_instead() -> None:
    catalogue = Catalogue(HOSTS, "a")
    assert catalogue.find("c", Reader, EMBED).name == "c"
    with pytest.raises(InvalidArgument) as refused:
        catalogue.find("b", Reader, EMBED)
    (violation,) = refused.value.violations
    assert (violation.field, violation.value) == ("model", "b")
    assert violation.limit == "one that embeds: c, d (b tags)"
    with pytest.raises(NotFound, match="no model 'x'; served are a, b, c, d"):
        catalogue.find("x", Reader, EMBED)


def test_a_host_of_another_kind_is_not_found() -> None:
    catalogue = Catalogue(HOSTS, "a")
    with pytest.raises(InvalidArgument):
        catalogue.find("b", Writer, TAG)
    with pytest.raises(NotFound, match=r"no model here classifies: .*a translates"):
        catalogue.find("", Reader, Bundle.TASK_CLASSIFY)


def test_abilities_in_words() -> None:
    assert abilities(HOSTS[0]) == "c tags, embeds"
    assert abilities(host("e")) == "e does nothing"
