"""The commands that the export room offers to ``dragoman``: export, verify, evaluate."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from dragoman_export.evaluation import Evaluation


def export(  # noqa: PLR0917  (the arguments are the command line's options)
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Folder of a trained model.")],
    output: Annotated[Path, typer.Option(help="Folder of the bundle to write, such as models/deu-eng/1.")],
    data: Annotated[
        list[Path],
        typer.Option(
            help="Test set that the certificate is measured on: a TSV file, or twice for two parallel files. "
            "For a language model: text files, of which the part is measured that the recipe held out. "
            "For an encoder: files like its recipe's."
        ),
    ],
    calibration: Annotated[
        list[Path],
        typer.Option(help="Texts that activation ranges are taken from, in the same form: the training data."),
    ],
    columns: Annotated[
        str | None,
        typer.Option(help="Languages of the columns (or files), such as en,de. Default: the recipe's."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model. Default: the recipe's.")] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="Precisions to write, of int8, fp32 and fp16; the first two are measured in any case, fp16, which a "
            "GPU needs, where it is written."
        ),
    ] = "int8",
    source_tokens: Annotated[
        int | None, typer.Option(help="Longest source that the bundle takes. Default: the longest trained on.")
    ] = None,
    target_tokens: Annotated[
        int | None, typer.Option(help="Longest target that the bundle gives. Default: the longest trained on.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that is there already.")] = False,
) -> None:
    """Export a checkpoint to ONNX, quantise it, compare it with PyTorch, and write a bundle.

    The bundle is written only if it meets its certificate's limits. float32: largest logit difference from PyTorch
    below 0.001 along greedy decodes, and 99.5% of the greedy outputs identical; float16: 0.2 and 97%. All: BLEU at
    most 0.3 below PyTorch's in each direction. An encoder: in float32 no output further than 0.001 from PyTorch's and
    99.9% of the texts decided alike, in int8 no figure (accuracy, macro F1, ...) more than a hundredth below PyTorch's;
    its data are files like its recipe's, of which --data gives the test split and --calibration the training split. A
    language model: greedy continuations of held-out prompts for greedy outputs, and nats per character at most 0.01
    above PyTorch's. Otherwise all misses are listed on stderr and the exit status is 1.
    """
    from dragoman_export.bundle_writer import BundleExistsError  # noqa: PLC0415
    from dragoman_export.certificate import CertificateError  # noqa: PLC0415
    from dragoman_export.export_job import ExportError, ExportOptions  # noqa: PLC0415
    from dragoman_export.exporting import export_bundle  # noqa: PLC0415
    from dragoman_export.report import result_tables  # noqa: PLC0415
    from dragoman_export.sentences import parse_columns  # noqa: PLC0415
    from dragoman_export.serving import ServingError  # noqa: PLC0415
    from dragoman_model.checkpoint import CheckpointError  # noqa: PLC0415  (--help needs none of these)
    from dragoman_model.data import DataError  # noqa: PLC0415
    from dragoman_server.bundle import BundleError  # noqa: PLC0415
    from dragoman_server.progress import Stages  # noqa: PLC0415

    try:
        options = ExportOptions(
            checkpoint=checkpoint,
            output=output,
            data=data,
            calibration=calibration,
            columns=parse_columns(columns) if columns else None,
            name=name,
            precisions=[part.strip() for part in precision.split(",") if part.strip()],
            source_tokens=source_tokens,
            target_tokens=target_tokens,
            overwrite=force,
        )
        result = export_bundle(options, Stages())
    except (
        BundleError, BundleExistsError, CertificateError, CheckpointError, DataError, ExportError, ServingError, OSError
    ) as error:  # fmt: skip
        raise _fail("export", error) from None
    _console().print(result_tables(output, result))


def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of a bundle, such as models/deu-eng/1.")],
    data: Annotated[
        list[Path] | None, typer.Option(help="The certificate's test set: its figures are then measured again.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Folder of the model that was exported: PyTorch's side is measured again, too.")
    ] = None,
) -> None:
    """Check a bundle: every file, and that it still computes what its certificate says.

    Without options: hashes, graphs, and forty sentences whose PyTorch outputs the bundle carries. The exit status is 0
    only if all agrees; all faults of the files are listed.
    """
    from dragoman_export.probes import ProbesError  # noqa: PLC0415
    from dragoman_export.report import verification_table  # noqa: PLC0415
    from dragoman_export.serving import ServingError  # noqa: PLC0415
    from dragoman_export.verification import verify as verify_bundle  # noqa: PLC0415
    from dragoman_model.checkpoint import CheckpointError  # noqa: PLC0415  (--help needs none of these)
    from dragoman_model.data import DataError  # noqa: PLC0415
    from dragoman_server.progress import Stages  # noqa: PLC0415

    try:
        verification = verify_bundle(bundle, data or (), checkpoint, stages=Stages())
    except (CheckpointError, DataError, ProbesError, ServingError, OSError) as error:
        raise _fail("verify", error) from None
    if verification.faults:
        typer.echo(f"{bundle}: {len(verification.faults)} fault(s)", err=True)
        for fault in verification.faults:
            typer.echo(f"  {fault}", err=True)
    else:
        _console().print(verification_table(verification))
    if not verification.good:
        raise typer.Exit(1)


def evaluate(  # noqa: PLR0917  (the arguments are the command line's options)
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a bundle or of a checkpoint.")],
    data: Annotated[
        list[Path],
        typer.Option(
            help="A TSV file; or several times for parallel files: the source's, its reference, further references. "
            "For a language model: text files. For an encoder: files like those of its recipe."
        ),
    ],
    columns: Annotated[
        str | None,
        typer.Option(help="Languages of the columns (or files), such as en,de. Default: as in the model's own data."),
    ] = None,
    direction: Annotated[
        list[str] | None, typer.Option(help="Only this direction, such as en-de; may be repeated.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="Which graphs of a bundle. Default: int8.")] = None,
    beam_size: Annotated[int, typer.Option(min=1, help="Beam of a checkpoint; 1 is greedy.")] = 1,
    group_references: Annotated[
        bool, typer.Option("--group-references", help="Make one sentence with many references of equal sources.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many pairs.")] = None,
    last: Annotated[
        float, typer.Option(help="Of a language model's texts: only the last share of each, such as 0.1.")
    ] = 1.0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per direction.")] = False,
) -> None:
    """Score a model on sentence pairs: BLEU, chrF, word error rate, and speed, for each direction.

    A bundle is decoded by the serving engine in this process, on all usable cores; a checkpoint by PyTorch. The
    checkpoint of a language model is scored on texts: nats per character, and perplexity per token; an encoder, bundle
    or checkpoint, on labels or tags: accuracy, macro F1, and what its threshold finds out of scope.
    """
    from dragoman_export import evaluation  # noqa: PLC0415
    from dragoman_export.label_evaluation import is_encoder_bundle  # noqa: PLC0415
    from dragoman_export.probes import ProbesError  # noqa: PLC0415
    from dragoman_export.report import evaluation_table  # noqa: PLC0415
    from dragoman_export.sentences import parse_columns, parse_direction, read_parallel  # noqa: PLC0415
    from dragoman_export.serving import ServingError  # noqa: PLC0415
    from dragoman_model.checkpoint import CheckpointError, checkpoint_family  # noqa: PLC0415
    from dragoman_model.data import DataError  # noqa: PLC0415
    from dragoman_server.bundle import BundleError  # noqa: PLC0415
    from dragoman_server.progress import Stages  # noqa: PLC0415

    try:
        match checkpoint_family(model):
            case "decoder":
                _evaluate_texts(model, data, last=last, json=json)
                return
            case "encoder":
                _evaluate_labels(model, data, precision, json=json)
                return
        if is_encoder_bundle(model):
            _evaluate_labels(model, data, precision, json=json)
            return
        stages = Stages()
        given = parse_columns(columns) if columns else None
        wanted = [parse_direction(text) for text in direction] if direction else None
        with evaluation.open_translator(model, precision=precision, beam_size=beam_size) as translator:
            text = read_parallel(data, evaluation.columns_for(translator, given)).limited(limit)
            if text.report:
                stages.say(text.report)
            results = evaluation.evaluate(
                translator, text, text.directions(wanted), group_references=group_references, stages=stages
            )
    except (
        BundleError, CheckpointError, DataError, evaluation.EvaluationError, ProbesError, ServingError, OSError
    ) as error:  # fmt: skip
        raise _fail("evaluate", error) from None
    if json:
        for result in results:
            typer.echo(json_format.dumps(_plain(result)))
    else:
        _console().print(evaluation_table(results))


def _evaluate_texts(model: Path, data: list[Path], *, last: float, json: bool) -> None:
    from dragoman_export.text_evaluation import evaluate_text_files, text_json, text_table  # noqa: PLC0415

    found = evaluate_text_files(model, data, last=last)
    if json:
        typer.echo(text_json(found))
    else:
        _console().print(text_table(found))


def _evaluate_labels(model: Path, data: list[Path], precision: str | None, *, json: bool) -> None:
    from dragoman_export.label_evaluation import evaluate_label_files, label_json, label_table  # noqa: PLC0415
    from dragoman_server.progress import Stages  # noqa: PLC0415

    found = evaluate_label_files(model, data, precision, Stages())
    if json:
        typer.echo(label_json(found))
    else:
        _console().print(label_table(found))


def _plain(result: Evaluation) -> dict[str, str | float]:
    return {
        "direction": str(result.direction),
        **vars(result.scores),
        "sentences": result.sentences,
        "tokens": result.tokens,
        "seconds": result.seconds,
        "sentences_per_second": result.sentences_per_second,
        "tokens_per_second": result.tokens_per_second,
        "shortened": result.shortened,
    }


def _console() -> Console:
    return Console(markup=False, highlight=False, emoji=False)


def _fail(command: str, error: Exception) -> typer.Exit:
    typer.echo(f"dragoman {command}: {error}", err=True)
    return typer.Exit(1)
