"""``dragoman train``: a recipe in, a model out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from dragoman_model.checkpoint import CheckpointError
from dragoman_model.data import DataError
from dragoman_model.distributed import join_world
from dragoman_model.recipe import RecipeError
from dragoman_model.tasks import load_recipe, open_task
from dragoman_model.trainer import Trainer, TrainingError, newest_checkpoint


def train(
    recipe: Annotated[Path, typer.Argument(help="TOML file that describes the run.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option(help="Folder of the run. [default: runs/NAME]", show_default=False)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in the folder.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train a model from a recipe. Under torchrun, on many GPUs or processes.

    Writes checkpoints, history.jsonl, loss.png and, at the end, the folder model/, which `dragoman export` takes.
    """
    try:
        parsed = load_recipe(recipe)
        folder = output or Path("runs") / parsed.name
        found = newest_checkpoint(folder)
        world = join_world(device)
    except (RecipeError, RuntimeError) as error:
        raise _fail(error) from error
    if found is not None and not resume:
        raise _fail(f"{folder} holds checkpoints of an earlier run: --resume goes on, --output names another folder")
    try:
        say = (lambda text: print(text, file=sys.stderr, flush=True)) if world.leader else (lambda text: None)
        task = open_task(parsed, recipe.read_text(encoding="utf-8"), say, found / "model" if found else None)
        path = Trainer(task, folder, world).run(resume=resume)
    except (CheckpointError, DataError, RecipeError, TrainingError) as error:
        raise _fail(error) from error
    finally:
        world.close()
    if world.leader:
        print(path)


def _fail(error: Exception | str) -> typer.Exit:
    print(f"dragoman train: {error}", file=sys.stderr)
    return typer.Exit(1)
