"""Checkpoints: folders of safetensors and JSON, written to the side and renamed, so that none is ever half there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from dragoman_model.config import BaseConfig
from dragoman_model.families import AnyModel, build_model, read_config
from dragoman_model.recipe import LanguageSection
from dragoman_model.tokenizer import load_tokenizer

ModelT = TypeVar("ModelT", bound=AnyModel)
ModelT_co = TypeVar("ModelT_co", bound=AnyModel, covariant=True)


class CheckpointError(Exception):
    """A checkpoint is missing a file, or a file is not what it should be."""


@dataclass(frozen=True)
class Provenance:
    """Where a trained model comes from."""

    name: str
    description: str
    languages: list[LanguageSection]
    """Of a model that translates; empty for others, as are its directions."""
    directions: list[tuple[str, str]]
    recipe: str
    """The recipe's text, whole."""
    updates: int
    training_data: str
    licence: str
    attribution: str


@dataclass(frozen=True)
class TrainedModel(Generic[ModelT_co]):
    """A model ready to be used: weights in float32, tokenizer, provenance, and the SHA-256 of the weights' file."""

    model: ModelT_co
    tokenizer: Tokenizer
    provenance: Provenance
    sha256: str


def save_model(
    path: Path, state: dict[str, Tensor], config: BaseConfig, tokenizer: Tokenizer, provenance: Provenance
) -> None:
    """Write model.safetensors, config.json, tokenizer.json and provenance.json into the new folder ``path``."""

    def write(folder: Path) -> None:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, folder / "model.safetensors"
        )
        _write_json(folder / "config.json", config.model_dump(mode="json"))
        tokenizer.save(str(folder / "tokenizer.json"))
        _write_json(
            folder / "provenance.json",
            {**vars(provenance), "languages": [language.model_dump() for language in provenance.languages]},
        )

    atomic_folder(path, write)


@overload
def load_model(path: Path) -> TrainedModel[AnyModel]: ...
@overload
def load_model(path: Path, kind: type[ModelT]) -> TrainedModel[ModelT]: ...
def load_model(path: Path, kind: type[Any] | None = None) -> TrainedModel[Any]:
    """Read what ``save_model`` wrote, on CPU, in evaluation mode; ``kind`` says which model the caller can use.

    CheckpointError names every missing file, or says that the model is of another kind.
    """
    missing = [
        name
        for name in ("model.safetensors", "config.json", "tokenizer.json", "provenance.json")
        if not (path / name).is_file()
    ]
    if missing:
        raise CheckpointError(f"{path} is no checkpoint: {', '.join(missing)} missing")
    try:
        model = build_model(read_config((path / "config.json").read_text(encoding="utf-8")))
        raw = json.loads((path / "provenance.json").read_text(encoding="utf-8"))
        raw["languages"] = [LanguageSection(**language) for language in raw["languages"]]
        raw["directions"] = [(source, target) for source, target in raw["directions"]]
        provenance = Provenance(**raw)
        tokenizer = load_tokenizer(path / "tokenizer.json")
        model.load_state_dict({k: v.float() for k, v in load_file(path / "model.safetensors").items()})
    except Exception as error:
        raise CheckpointError(f"{path}: {error}") from error
    if kind is not None and not isinstance(model, kind):
        raise CheckpointError(f"{path} holds a {type(model).__name__}, and a {kind.__name__} is needed")
    digest = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
    return TrainedModel(model.eval(), tokenizer, provenance, digest)


def checkpoint_family(path: Path) -> str | None:
    """The family of the checkpoint in the folder ``path``; None where no config.json is, as in a bundle.

    CheckpointError if the file says nothing that can be used.
    """
    if not (path / "config.json").is_file():
        return None
    try:
        return read_config((path / "config.json").read_text(encoding="utf-8")).family
    except ValueError as error:
        raise CheckpointError(f"{path / 'config.json'}: {error}") from error


def saved_updates(path: Path) -> int:
    """How many updates the checkpoint in ``path`` had."""
    return int(json.loads((path / "provenance.json").read_text(encoding="utf-8"))["updates"])


def average_states(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of several checkpoints' weights, taken in float64."""
    first = states[0]
    return {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(first[name].dtype)
        for name in first
    }


def random_state() -> Tensor:
    """This process's random numbers: the state of the CPU generator, then that of the CUDA device if there is one."""
    states = [torch.get_rng_state()]
    if torch.cuda.is_available():
        states.append(torch.cuda.get_rng_state())
    return torch.cat(states)


def _set_random_state(state: Tensor) -> None:
    cpu = torch.get_rng_state().numel()
    torch.set_rng_state(state[:cpu])
    if torch.cuda.is_available() and state.numel() > cpu:
        torch.cuda.set_rng_state(state[cpu:])


def save_training_state(
    folder: Path,
    optimizers: Sequence[torch.optim.Optimizer],
    progress: dict[str, Any],
    random_states: Sequence[Tensor],
) -> None:
    """Add optimizer.safetensors and progress.json to a checkpoint; one random state for each process."""
    tensors: dict[str, Tensor] = {}
    for number, optimizer in enumerate(optimizers):
        for index, entry in optimizer.state_dict()["state"].items():
            for key, value in entry.items():
                tensors[f"{number}.{index}.{key}"] = torch.as_tensor(value).detach().cpu().contiguous()
    for rank, state in enumerate(random_states):
        tensors[f"random.{rank}"] = state
    save_file(tensors, folder / "optimizer.safetensors")
    _write_json(folder / "progress.json", progress)


def load_training_state(folder: Path, optimizers: Sequence[torch.optim.Optimizer], rank: int) -> dict[str, Any]:
    """Bring optimizers and random numbers back to where the checkpoint was written; returns its progress."""
    tensors = load_file(folder / "optimizer.safetensors")
    random_states = {name: tensors.pop(name) for name in list(tensors) if name.startswith("random.")}
    if f"random.{rank}" in random_states:  # a process more than the run had: its seed stands
        _set_random_state(random_states[f"random.{rank}"])
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    for name, tensor in tensors.items():
        number, index, key = name.split(".", 2)
        states[int(number)].setdefault(int(index), {})[key] = tensor
    for optimizer, state in zip(optimizers, states, strict=True):
        whole = optimizer.state_dict()
        whole["state"] = state
        optimizer.load_state_dict(whole)
    progress: dict[str, Any] = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
    return progress


def atomic_folder(path: Path, *writers: Any) -> None:
    """Run each writer on a folder beside ``path``, then rename it: after a crash ``path`` is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    beside.mkdir()
    try:
        for write in writers:
            write(beside)
        for file in (entry for entry in beside.rglob("*") if entry.is_file()):
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        if path.exists():
            old = path.with_name(f".{path.name}.old-{uuid.uuid4().hex[:8]}")
            path.rename(old)
            beside.rename(path)
            shutil.rmtree(old)
        else:
            beside.rename(path)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
