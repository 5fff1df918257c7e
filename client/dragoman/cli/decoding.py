"""The options of decoding on the command line: one for each keyword of ``Decoding``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Annotated, Any

import typer

from dragoman.decoding import Decoding, GenerationOptions


def _option(kind: Any, flag: str, metavar: str | None, text: str) -> Any:
    return Annotated[kind | None, typer.Option(flag, metavar=metavar, help=text, show_default=False)]


OPTIONS: dict[str, Any] = {
    "max_length": _option(int, "--max-length", "N", "Most tokens to produce."),
    "min_length": _option(int, "--min-length", "N", "Fewest tokens to produce."),
    "max_length_ratio": _option(float, "--max-length-ratio", "X", "Most tokens for each token of the text."),
    "min_length_ratio": _option(float, "--min-length-ratio", "X", "Fewest tokens for each token of the text."),
    "beam_size": _option(int, "--beam-size", "N", "Beam search with so many live hypotheses."),
    "num_hypotheses": _option(int, "--num-hypotheses", "N", "Hypotheses for each text, best first."),
    "length_penalty": _option(float, "--length-penalty", "X", "Exponent of the length in the rank; 0: none."),
    "length_normalisation": _option(str, "--length-normalisation", "plain|wu", "What that exponent is put on."),
    "coverage_penalty": _option(float, "--coverage-penalty", "X", "Weight of the source's coverage in the rank."),
    "patience": _option(float, "--patience", "X", "End the beam at X times its size of ended hypotheses."),
    "early_stopping": _option(bool, "--early-stopping", None, "End the beam when nothing live can get in."),
    "temperature": _option(float, "--temperature", "X", "Draw tokens, their logits divided by X."),
    "top_k": _option(int, "--top-k", "N", "Draw from the N likeliest."),
    "top_p": _option(float, "--top-p", "P", "Draw from the likeliest that together reach P."),
    "min_p": _option(float, "--min-p", "P", "Draw from those P times as likely as the likeliest."),
    "typical_p": _option(float, "--typical-p", "P", "Draw from the most typical that together reach P."),
    "seed": _option(int, "--seed", "N", "The same seed draws the same text."),
    "repetition_penalty": _option(float, "--repetition-penalty", "X", "Above 1: repeat fewer tokens."),
    "presence_penalty": _option(float, "--presence-penalty", "X", "Off the logits of tokens already there."),
    "frequency_penalty": _option(float, "--frequency-penalty", "X", "The same for each time they are there."),
    "no_repeat_ngram_size": _option(int, "--no-repeat-ngram-size", "N", "No N tokens in a row come twice."),
    "banned_words": _option(list[str], "--banned-word", "TEXT", "Must not come in its usual pieces; repeatable."),
    "allowed_words": _option(list[str], "--allowed-word", "TEXT", "Nothing else comes; repeatable."),
    "target_prefix": _option(str, "--target-prefix", "TEXT", "Each answer begins with this."),
    "alternatives": _option(int, "--alternatives", "N", "Continue each of the N likeliest next tokens."),
    "stop": _option(list[str], "--stop", "TEXT", "End before this; repeatable."),
    "replace_unknowns": _option(bool, "--replace-unknowns", None, "Unknown tokens become words of the source."),
}


def decoding_options(command: Callable[..., None]) -> Callable[..., None]:
    """Show Typer an option for each keyword of ``Decoding``, which ``command`` takes through ``**decoding``."""
    return _with_options(command, Decoding.__annotations__)


def generation_options(command: Callable[..., None]) -> Callable[..., None]:
    """Show Typer an option for each keyword of ``GenerationOptions``, which ``command`` takes through ``**options``."""
    return _with_options(command, GenerationOptions.__annotations__)


def _with_options(command: Callable[..., None], names: Collection[str]) -> Callable[..., None]:
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in OPTIONS.items()
        if name in names
    ]
    command.__signature__ = signature.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
    return command


def several(options: GenerationOptions) -> bool:
    """Whether an answer may hold more than one hypothesis."""
    return (options.get("num_hypotheses") or 1) > 1 or options.get("alternatives") is not None
