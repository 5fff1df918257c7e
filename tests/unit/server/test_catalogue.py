from __future__ import annotations

from dataclasses import dataclass, replace

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


def version(name: str, number: int) -> Reader:
    return replace(host(name, TAG), version=str(number))


def test_versions_side_by_side() -> None:
    hosts = {number: version("a", number) for number in (9, 10, 2)}
    catalogue = Catalogue([*hosts.values(), version("b", 1)], "a")
    assert [(one.name, one.version) for one in catalogue] == [("a", "10"), ("a", "9"), ("a", "2"), ("b", "1")]
    for reference, number in (("", 10), ("a", 10), ("a@10", 10), ("a@2", 2)):
        assert catalogue.resolve(reference) is hosts[number]
        assert catalogue.find(reference, Reader, TAG) is hosts[number]
    assert [number for number, one in hosts.items() if catalogue.is_default(one)] == [10]
    with pytest.raises(NotFound, match="no version 3 of model 'a'; served are 10, 9, 2"):
        catalogue.resolve("a@3")


def test_a_call_needs_what_it_has_found_and_all_before_it_has_found_anything() -> None:
    first, second = version("a", 1), version("b", 1)
    call = Catalogue([first, second], "a").for_call()
    assert call.needs(first)
    assert call.needs(second)
    call.find("b", Reader, TAG)
    assert not call.needs(first)
    assert call.needs(second)
    call.resolve("")
    assert call.needs(first)
    assert not call.needs(version("b", 1))  # another host of the same name


def test_whether_a_name_still_means_a_host() -> None:
    old, new, other = version("a", 1), version("a", 2), version("b", 1)
    call = Catalogue([old, new, other], "a").for_call()
    assert not call.finds("a", old)
    assert not call.finds("", old)
    assert not call.finds("c", old)
    assert not call.finds("a@3", old)
    assert call.needs(old)
    assert call.needs(other)  # nothing was found so far
    assert call.finds("a@1", old)
    assert call.finds("b", other)
    assert not call.needs(new)
    assert call.finds("", new)
    assert call.needs(new)
    assert not Catalogue([], "").finds("", new)


def test_without_models() -> None:
    nothing = Catalogue([], "")
    assert list(nothing) == []
    assert not nothing.is_default(version("a", 1))
    for reference in ("", "a"):
        with pytest.raises(NotFound, match="none is served"):
            nothing.resolve(reference)


def test_a_call_lets_go_of_what_it_does_not_need() -> None:
    one, two = host("a", TAG), host("b", TAG)
    served = Catalogue([one, two], "a")
    call = served.for_call()
    assert call.find("b", Reader, TAG) is two
    assert not call.needs(one)
    call.let_go(one)
    assert list(call) == [two]
    assert not call.is_default(two)
    assert call.resolve("b") is two
    with pytest.raises(NotFound, match="no model 'a'; served are b"):
        call.resolve("a")
    assert list(served) == [one, two]  # others have it still
    assert served.is_default(one)
