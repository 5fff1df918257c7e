"""``dragoman generate``: a prompt's continuation, printed as it is decoded."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated, Unpack, cast

import typer

from dragoman.cli.common import Json, Model, Priority
from dragoman.cli.connecting import Connect, connecting
from dragoman.cli.decoding import generation_options, several
from dragoman.cli.translate import document, one_line, standard_input
from dragoman.decoding import GenerationOptions
from dragoman.generation import ContextOverflow


@generation_options
@connecting
def generate(
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="None: all of stdin.", show_default=False)
    ] = None,
    *,
    model: Model = None,
    max_new_tokens: Annotated[
        int | None, typer.Option("--max-new-tokens", metavar="N", help="Most tokens to produce.", show_default=False)
    ] = None,
    context_overflow: Annotated[
        str | None,
        typer.Option(
            "--context-overflow",
            metavar="refuse|slide",
            help="What becomes of text that does not fit the model's window.",
            show_default=False,
        ),
    ] = None,
    echo: Annotated[bool, typer.Option("--echo", help="Print the prompt before it.")] = False,
    priority: Priority = None,
    as_json: Json = False,
    connect: Connect,
    **options: Unpack[GenerationOptions],
) -> None:
    """Continue a text. What is final of the continuation is printed at once.

    Where several hypotheses are asked for, each has a line of its own when all are there: its rank score and itself,
    its lines joined by spaces, parted by a tab. With --json, there is a line for each chunk; the last has the answer.
    """
    if prompt is None:
        prompt = document(standard_input())
    each_its_line = several(options) and not as_json
    with connect() as client:
        chunks = client.generate(
            prompt,
            model=model,
            max_new_tokens=max_new_tokens,
            context_overflow=cast(ContextOverflow | None, context_overflow),
            priority=priority,
            **options,
        )
        begun = False
        for chunk in chunks:
            if echo and not (begun or as_json or each_its_line):
                sys.stdout.write(prompt)
            begun = True
            if as_json:
                sys.stdout.write(json.dumps(asdict(chunk), ensure_ascii=False) + "\n")
            elif not each_its_line:
                sys.stdout.write(chunk.text)
            elif chunk.answer is not None:
                for hypothesis in chunk.answer.hypotheses:
                    sys.stdout.write(f"{hypothesis.rank_score:.4f}\t{one_line(hypothesis.text)}\n")
            sys.stdout.flush()
        if not as_json and not each_its_line and not chunk.final_text.endswith("\n"):
            sys.stdout.write("\n")
