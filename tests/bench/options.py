"""Options that all benchmarks share on their command lines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tests.bench.models import NAMES
from tests.bench.results import FOLDER

Rounds = Annotated[int, typer.Option(min=1, help="Rounds that count, after one that does not")]
Sentences = Annotated[int | None, typer.Option(min=1, help="How many sentences; all where it is not given")]
Models = Annotated[list[str], typer.Option("--model", help="Which models")]
Output = Annotated[Path, typer.Option(help="Folder for JSON and PNG")]

ROUNDS = 5
MODELS = list(NAMES)
OUTPUT = FOLDER
BEAMS = {"greedy": 1, "beam 4": 4}
