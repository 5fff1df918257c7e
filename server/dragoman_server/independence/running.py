"""``dragoman bench independence``: from a bundle's folder to the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server.bundle import LoadedBundle, load_bundle
from dragoman_server.catalogue import choose_default
from dragoman_server.compiled_kernels import chosen_library
from dragoman_server.encoder_codec import EncoderCodec
from dragoman_server.errors import InvalidArgument, Violation
from dragoman_server.independence.cases import WIDEST, Target, draw_cases
from dragoman_server.independence.checking import ENCODER, Company, Result, Subject, check, continuing, translating
from dragoman_server.independence.encoding import compare_encodings, sources_of_every_length
from dragoman_server.independence.pass_texts import read_texts, texts_of_every_length
from dragoman_server.independence.passes import PassSubject, check_every_length, check_passes
from dragoman_server.independence.report import Report
from dragoman_server.independence.sentences import Sentence, own_sentences
from dragoman_server.independence.texts import Sources, encode, encode_prompts, read_sentences
from dragoman_server.inspection import checked_manifest
from dragoman_server.loading import newest_versions
from dragoman_server.pass_runtime import OnnxPassRuntime
from dragoman_server.progress import Stages
from dragoman_server.prompt_runtime import OnnxPromptRuntime
from dragoman_server.runtime import OnnxRuntime
from dragoman_server.tokenization import TextCodec

ALL = "all"
_PRECISIONS = ("int8", "fp32")
_ENCODER_ROWS = 16


@dataclass(frozen=True)
class Options:
    """What the command was asked for."""

    bundle: Path | None = None
    """None: the default model."""
    data: Path | None = None
    """None: sentences of our own."""
    column: int = 1
    target: str | None = None
    sentences: int = 1000
    precision: str = ALL
    lanes: list[int] = field(default_factory=lambda: [1, 2])
    max_rows: int = 64
    seed: int = 1


def parse_lanes(text: str) -> list[int]:
    """ "1,2" -> [1, 2]. Raises InvalidArgument."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InvalidArgument([Violation("lanes", text, "numbers with commas between them, such as 1,2")]) from None


def run(options: Options, stages: Stages) -> Report:
    """Check the options, then every precision asked for.

    Raises InvalidArgument, SettingsError where there is no default model, BundleError, and TrafficError.
    """
    _refuse_bad(options)
    path = options.bundle or _default_bundle()
    bundles = [load_bundle(path, precision) for precision in _precisions(path, options.precision)]
    manifest = bundles[0].manifest
    sentences = _sentences(options)
    results, company = _CHECKS[manifest.family](bundles, sentences, options, stages)
    return Report(
        model=f"{manifest.name}, {path}",
        graphs={bundle.precision: _hashes(manifest, bundle.precision) for bundle in bundles},
        sentences=len(sentences),
        source=f"of {options.data}" if options.data else "of our own",
        seed=options.seed,
        results=results,
        company=company,
    )


def _check_translation(
    bundles: Sequence[LoadedBundle], sentences: list[Sentence], options: Options, stages: Stages
) -> tuple[list[Result], list[Company]]:
    manifest, codec = bundles[0].manifest, _codec(bundles[0])
    sources = encode(sentences, codec, manifest, target=options.target, seed=options.seed)
    target = Target(manifest.limits.target_tokens, manifest.dimensions.vocabulary, codec.decode)
    cases = draw_cases(sources, target, seed=options.seed)
    results: list[Result] = []
    company: list[Company] = []
    for bundle in bundles:
        results.append(_check_encoder(bundle, sources, options.seed, stages))
        found = check(
            _subject(bundle), cases, lanes=options.lanes, max_rows=options.max_rows, seed=options.seed, stages=stages
        )
        results += found[0]
        company += found[1]
    return results, company


def _check_generation(
    bundles: Sequence[LoadedBundle], sentences: list[Sentence], options: Options, stages: Stages
) -> tuple[list[Result], list[Company]]:
    manifest, codec = bundles[0].manifest, _codec(bundles[0])
    _refuse_target(options)
    prompts = encode_prompts(sentences, codec, manifest, seed=options.seed)
    target = Target(manifest.limits.target_tokens, manifest.dimensions.vocabulary, codec.decode, prompts=True)
    cases = draw_cases(prompts, target, seed=options.seed)
    results: list[Result] = []
    company: list[Company] = []
    for bundle in bundles:
        subject = continuing(bundle.precision, manifest.special_ids.eos, partial(_prompt_runtime, bundle))
        found = check(subject, cases, lanes=options.lanes, max_rows=options.max_rows, seed=options.seed, stages=stages)
        results += found[0]
        company += found[1]
    return results, company


def _check_passes(
    bundles: Sequence[LoadedBundle], sentences: list[Sentence], options: Options, stages: Stages
) -> tuple[list[Result], list[Company]]:
    manifest = bundles[0].manifest
    _refuse_target(options)
    special = manifest.special_ids
    codec = EncoderCodec(
        bundles[0].tokenizer, cls=special.cls, sep=special.sep, mask=special.mask if special.HasField("mask") else None
    )
    inputs = read_texts([sentence.text for sentence in sentences], codec, manifest, seed=options.seed)
    words = sorted({token for text in inputs for token in text.ids} - codec.special) or [special.sep]
    every_length = texts_of_every_length(manifest, words=words, seed=options.seed)
    results: list[Result] = []
    company: list[Company] = []
    for bundle in bundles:
        subject = PassSubject(bundle.precision, partial(_pass_runtime, bundle))
        results += check_every_length(subject, every_length, rows=_ENCODER_ROWS, seed=options.seed, stages=stages)
        found = check_passes(
            subject, inputs, lanes=options.lanes, max_rows=options.max_rows, seed=options.seed, stages=stages
        )
        results += found[0]
        company += found[1]
    return results, company


_CHECKS = {
    Bundle.FAMILY_ENCODER_DECODER: _check_translation,
    Bundle.FAMILY_DECODER: _check_generation,
    Bundle.FAMILY_ENCODER: _check_passes,
}


def _refuse_target(options: Options) -> None:
    if options.target is not None:
        raise InvalidArgument([Violation("target", options.target, "the model does not translate")])


def _refuse_bad(options: Options) -> None:
    known = (*_PRECISIONS, ALL)
    least = {"sentences": (options.sentences, 1), "column": (options.column, 1), "max_rows": (options.max_rows, WIDEST)}
    faults = [Violation(name, str(value), f"at least {low}") for name, (value, low) in least.items() if value < low]
    if options.precision not in known:
        faults.append(Violation("precision", options.precision, f"one of {', '.join(known)}"))
    if not options.lanes or min(options.lanes) < 1 or len(set(options.lanes)) < len(options.lanes):
        faults.append(Violation("lanes", ",".join(map(str, options.lanes)), "different numbers, each at least 1"))
    if faults:
        raise InvalidArgument(faults)


def _default_bundle() -> Path:
    entries = {entry.name: entry for entry in newest_versions(None)}
    return entries[choose_default(list(entries), None)].path


def _precisions(path: Path, wanted: str) -> list[str]:
    """Those to check. Raises InvalidArgument where there is none, BundleError with the faults of a bundle."""
    if wanted != ALL:
        return [wanted]
    offered = checked_manifest(path).precisions
    found = [precision for precision in _PRECISIONS if precision in offered]
    if not found:
        limit = f"the bundle offers {', '.join(sorted(offered))}: one of {', '.join(_PRECISIONS)}"
        raise InvalidArgument([Violation("precision", wanted, limit)])
    return found


def _subject(bundle: LoadedBundle) -> Subject:
    special = bundle.manifest.special_ids
    return translating(bundle.precision, special.bos, special.eos, partial(_runtime, bundle))


def _runtime(bundle: LoadedBundle, rows: int) -> OnnxRuntime:
    manifest = bundle.manifest
    return OnnxRuntime(
        bundle.encoder,
        bundle.decoder,
        dimensions=manifest.dimensions,
        limits=manifest.limits,
        max_rows=rows,
        kernels=chosen_library("auto"),
    )


def _prompt_runtime(bundle: LoadedBundle, rows: int) -> OnnxPromptRuntime:
    manifest = bundle.manifest
    return OnnxPromptRuntime(
        bundle.decoder,
        dimensions=manifest.dimensions,
        limits=manifest.limits,
        max_rows=rows,
        kernels=chosen_library("auto"),
    )


def _codec(bundle: LoadedBundle) -> TextCodec:
    tags = {language.code: language.tag_id for language in bundle.manifest.languages}
    return TextCodec(bundle.tokenizer, tags=tags, eos=bundle.manifest.special_ids.eos)


def _pass_runtime(bundle: LoadedBundle, rows: int) -> OnnxPassRuntime:
    manifest = bundle.manifest
    return OnnxPassRuntime(
        bundle.encoder,
        dimensions=manifest.dimensions,
        limits=manifest.limits,
        max_rows=rows,
        kernels=chosen_library("auto") if bundle.precision == "int8" else None,
    )


def _sentences(options: Options) -> list[Sentence]:
    if options.data:
        return read_sentences(options.data, options.column, options.sentences, seed=options.seed)
    return own_sentences(options.sentences, seed=options.seed)


def _check_encoder(bundle: LoadedBundle, sources: Sources, seed: int, stages: Stages) -> Result:
    words = sorted({token for source in sources for token in source[1:-1]} or {bundle.manifest.special_ids.unk})
    asked = sources_of_every_length(
        words,
        first=sources[0][0],
        last=bundle.manifest.special_ids.eos,
        longest=bundle.manifest.limits.source_tokens,
        seed=seed,
    )
    with stages.stage(f"{bundle.precision}, encoder, every length to {len(asked) // 2}", 4 * len(asked)) as advance:
        found = compare_encodings(_runtime(bundle, _ENCODER_ROWS), asked, seed=seed, advance=advance)
    return Result(bundle.precision, ENCODER, 1, found)


def _hashes(manifest: Bundle, precision: str) -> dict[str, str]:
    sha256 = {file.path: file.sha256 for file in manifest.files}
    graphs = manifest.precisions[precision]
    paths = {"encoder": graphs.encoder, "decoder": graphs.decoder}
    return {role: sha256[path] for role, path in paths.items() if path}
