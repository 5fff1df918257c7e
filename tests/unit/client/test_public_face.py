"""What ``import dragoman`` offers."""

from __future__ import annotations

import inspect

import dragoman
from dragoman import AsyncClient, Client


def test_all_is_what_it_says() -> None:
    assert sorted(dragoman.__all__) == sorted(set(dragoman.__all__))
    assert all(hasattr(dragoman, name) for name in dragoman.__all__)
    public = {
        name for name, value in vars(dragoman).items() if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public == set(dragoman.__all__)


def test_every_error_is_offered() -> None:
    def below(kind: type[Exception]) -> set[str]:
        return {kind.__name__}.union(*(below(sub) for sub in kind.__subclasses__()))

    assert below(dragoman.DragomanError) <= set(dragoman.__all__)


def test_the_clients_are_twins() -> None:
    def methods(kind: type) -> dict[str, list[tuple[str, object, object]]]:
        return {
            name: [(p.name, p.kind, p.default) for p in inspect.signature(member).parameters.values()]
            for name, member in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_") or name == "__init__"
        }

    assert methods(Client) == methods(AsyncClient)
    assert set(methods(Client)) == {
        "__init__",
        "translate",
        "stream_translate",
        "translate_many",
        "score",
        "generate",
        "classify",
        "tag",
        "fill_mask",
        "embed",
        "explain",
        "models",
        "model",
        "health",
        "load_model",
        "unload_model",
        "close",
    }


def test_options_are_keyword_only() -> None:
    for kind in (Client, AsyncClient):
        for name, method in inspect.getmembers(kind, inspect.isfunction):
            if name.startswith("_"):
                continue
            positional = [
                p.name
                for p in inspect.signature(method).parameters.values()
                if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
            ]
            assert positional[1:] in (
                ["text"],
                ["text", "translation"],
                ["texts"],
                ["prompt"],
                [],
                ["name"],
                ["service"],
            )
