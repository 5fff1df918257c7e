"""The proof of independence, and that it finds what it is there to find."""

from __future__ import annotations

import gzip
import io
import json
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import structlog
import typer
from onnx import helper
from rich.console import Console
from typer.testing import CliRunner

from dragoman_server.bench_commands import independence
from dragoman_server.errors import Internal, InvalidArgument
from dragoman_server.independence.cases import KINDS, WIDEST, Case, Target, draw_cases
from dragoman_server.independence.checking import Result, check, translating
from dragoman_server.independence.encoding import compare_encodings, sources_of_every_length
from dragoman_server.independence.sentences import own_sentences
from dragoman_server.independence.texts import read_sentences
from dragoman_server.independence.traffic import TrafficError
from dragoman_server.progress import Stages
from dragoman_server.runtime import Runtime, StepOutput
from tests.unit.server import tiny
from tests.unit.server.reference import BOS, EOS, VOCABULARY, ToyRuntime

bench = typer.Typer()
bench.command()(independence)


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


class Doctored(ToyRuntime):
    """Its scores depend on the batch: with company, the log-probabilities are ``change``d."""

    def __init__(self, max_rows: int, change: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]) -> None:
        super().__init__(max_rows)
        self._change = change

    def step(self, tokens: Any, **asked: Any) -> StepOutput:
        output = super().step(tokens, **asked)
        if len(tokens) <= WIDEST:  # as many rows as one request may have
            return output
        changed = self._change(output.top_log_probs)
        logits = None if output.logits is None else self._change(output.logits)
        order = np.argsort(-changed, axis=1, kind="stable")
        ids = np.take_along_axis(output.top_ids, order, axis=1)
        return output._replace(top_log_probs=np.take_along_axis(changed, order, axis=1), top_ids=ids, logits=logits)


class Distracted(ToyRuntime):
    """Only its attention depends on the batch: with company, each weight is ``change``d."""

    def __init__(self, max_rows: int, change: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]) -> None:
        super().__init__(max_rows)
        self._change = change

    def step(self, tokens: Any, **asked: Any) -> StepOutput:
        output = super().step(tokens, **asked)
        if len(tokens) <= WIDEST or output.attention is None:
            return output
        return output._replace(attention=self._change(output.attention))


class Failing(ToyRuntime):
    """Its graph fails when it has company."""

    def step(self, tokens: Any, **asked: Any) -> StepOutput:
        if len(tokens) > WIDEST:
            raise RuntimeError("no memory")
        return super().step(tokens, **asked)


def by_one_bit(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.nextafter(scores, np.float32(-np.inf))


def by_a_lot(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The best becomes the worst."""
    changed = scores.copy()
    changed[np.arange(len(scores)), scores.argmax(axis=1)] -= 25
    return changed


def text_of(ids: Sequence[int]) -> str:
    return "".join(f"{chr(ord('a') + token_id)}{token_id % 3}" for token_id in ids)


def cases(count: int = 20) -> list[Case]:
    chance = random.Random(7)
    sources = [(9, *chance.choices(range(4, 20), k=chance.randint(1, 9)), EOS) for _ in range(count)]
    return draw_cases(sources, Target(16, VOCABULARY, text_of), seed=3)


def results(runtime: Callable[[int], Runtime], precision: str = "int8") -> list[Result]:
    stages = Stages(Console(file=io.StringIO()))
    subject = translating(precision, BOS, EOS, runtime)
    return check(subject, cases(), lanes=[1, 2], max_rows=32, seed=1, stages=stages)[0]


def test_an_honest_model_holds() -> None:
    found = results(ToyRuntime)
    assert [(line.kind, line.lanes) for line in found] == [(kind, lanes) for lanes in (1, 2) for kind in KINDS]
    for line in found:
        assert line.holds
        assert line.comparison.requests
        assert line.comparison.tokens
        assert line.comparison.scores > line.comparison.tokens
    assert {line.kind for line in found if line.comparison.weights} == set(KINDS)
    assert sum(line.comparison.watched for line in found) > 20


def test_one_bit_that_depends_on_the_batch_is_found() -> None:
    found = results(lambda rows: Doctored(rows, by_one_bit))
    assert not any(line.holds for line in found if line.lanes == 1)
    for line in found:
        assert line.comparison.largest_difference < 1e-4
    assert sum(line.comparison.different_scores for line in found) > 100


def test_fp32_may_differ_by_one_bit_but_not_by_a_token() -> None:
    assert all(line.holds for line in results(lambda rows: Doctored(rows, by_one_bit), "fp32"))
    found = results(lambda rows: Doctored(rows, by_a_lot), "fp32")
    # A target that is scored is given.
    assert not any(line.comparison.parted for line in found if line.kind == "forced")
    free = [line for line in found if line.lanes == 1 and line.kind != "forced"]
    assert not any(line.holds for line in free)
    assert sum(line.comparison.different_tokens for line in found) > 100
    assert all(line.comparison.parted for line in free)


@pytest.mark.parametrize(("change", "fp32"), [(by_one_bit, True), (lambda weights: weights + np.float32(1e-3), False)])
def test_attention_that_depends_on_the_batch_is_found(
    change: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]], fp32: bool
) -> None:
    found = [line.comparison for line in results(lambda rows: Distracted(rows, change))]
    assert sum(line.different_weights for line in found) > 100
    assert not any(line.holds("int8") for line in found if line.different_weights)
    # Beside the attention itself only the ranks that cover it may differ.
    assert all(line.different_scores < line.scores / 4 for line in found)
    assert all(line.holds("fp32") for line in found) == fp32


def test_a_request_that_fails_is_no_proof() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(io.StringIO()))
    with pytest.raises(TrafficError, match="Internal") as caught:
        results(Failing)
    assert isinstance(caught.value.__cause__, Internal)


class EncodingFake:
    """An encoder without weights; ``leak`` adds to the encoding what came with it."""

    max_rows, source_capacity = 6, 9

    def __init__(self, leak: float) -> None:
        self._leak = leak
        self._rows: dict[int, npt.NDArray[Any]] = {}

    def encode(self, rows: Sequence[int], sources: Sequence[Sequence[int]]) -> None:
        for row, source in zip(rows, sources, strict=True):
            self._rows[row] = np.array(source, np.float32) + np.float32(self._leak * (len(rows) > 1))

    def encoded(self, row: int) -> list[npt.NDArray[Any]]:
        return [self._rows[row].copy(), -self._rows[row]]


@pytest.mark.parametrize(("leak", "int8", "fp32"), [(0, True, True), (1e-5, False, True), (1, False, False)])
def test_encodings_that_depend_on_their_company_are_found(leak: float, int8: bool, fp32: bool) -> None:
    sources = sources_of_every_length([5, 6, 7], first=1, last=3, longest=9, seed=1)
    assert sorted({len(source) for source in sources}) == list(range(1, 10))
    found = compare_encodings(EncodingFake(leak), sources, seed=2, advance=lambda count: None)
    assert (found.holds("int8"), found.holds("fp32")) == (int8, fp32)
    assert found.requests == 3 * len(sources)
    assert found.scores == 2 * found.tokens


def test_cases_are_the_seeds_and_of_every_kind() -> None:
    drawn = cases(90)
    assert drawn == cases(90)
    counts = Counter(case.kind for case in drawn)
    assert sum(counts.values()) == 270 + counts["forced"]
    assert counts["filtered"] == 90
    assert set(counts) == set(KINDS)
    assert min(counts.values()) > 10
    for case in drawn:
        options = case.options
        assert options.width <= WIDEST
        assert options.min_length < options.max_length <= 16
        assert options.restricts == (case.kind == "filtered")
        assert case.kind != "greedy" or options.plain
        assert options.forced == (case.kind == "forced")
        assert bool(options.alternatives) == (case.kind == "alternatives") or case.kind == "filtered"
        if options.forced:
            assert options.prefix[-1] == EOS
            assert max(options.prefix) < VOCABULARY
    forced = [case for case in drawn if case.kind == "forced"]
    assert 0 < sum(case.source_ids[1:] == case.options.prefix for case in forced) < len(forced)
    for some in (
        [case.options.with_attention for case in drawn],
        [case.options.coverage_penalty > 0 for case in drawn],
        [case.options.stop is not None for case in drawn if case.kind == "filtered"],
    ):
        assert len(some) / 8 < sum(some) < len(some) / 2


def test_a_thousand_sentences_of_our_own() -> None:
    drawn = own_sentences(1000, seed=4)
    assert drawn == own_sentences(1000, seed=4)
    assert drawn != own_sentences(1000, seed=5)
    assert len({sentence.text for sentence in drawn}) == 1000
    assert Counter(sentence.language for sentence in drawn) == {"en": 500, "de": 500}
    lengths = {len(sentence.text.split()) for sentence in drawn}
    assert (min(lengths), max(lengths)) == (1, 40)
    assert len(lengths) > 35


@pytest.mark.parametrize(
    ("name", "content", "column"),
    [
        ("lines.txt", b"one\n\ntwo words\r\none\n  three \n", 1),
        ("lines.txt.gz", gzip.compress(b"one\ntwo words\nthree"), 1),
        ("pairs.tsv", b"x\tone\na\ttwo words\ny\tthree\n", 2),
        ("pairs.tsv.gz", gzip.compress(b"one\tx\ntwo words\ty\nthree\tz\n"), 1),
    ],
)
def test_sentences_of_a_file(tmp_path: Path, name: str, content: bytes, column: int) -> None:
    (tmp_path / name).write_bytes(content)
    found = [sentence.text for sentence in read_sentences(tmp_path / name, column, 100, seed=1)]
    assert sorted(found) == ["one", "three", "two words"]
    few = read_sentences(tmp_path / name, column, 2, seed=1)
    assert len({sentence.text for sentence in few} & set(found)) == 2


@pytest.mark.parametrize(
    ("name", "content", "field"),
    [
        ("absent", None, "data"),
        ("empty.txt", b"\n \n", "data"),
        ("latin.txt", b"\xfc\n", "data"),
        ("short.txt.gz", gzip.compress(b"some text")[:-9], "data"),
        ("broken.txt.gz", gzip.compress(b"some text")[:10] + b"\xff" * 40, "data"),
        ("pairs.tsv", b"a\tb\nc\td\n", "column"),
    ],
)
def test_files_that_will_not_do(tmp_path: Path, name: str, content: bytes | None, field: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidArgument) as caught:
        read_sentences(tmp_path / name, 3, 10, seed=1)
    assert [violation.field for violation in caught.value.violations] == [field]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_bundle(tmp_path_factory.mktemp("models") / "tiny" / "1")


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    """The same bundle, its scores scaled by a maximum over the whole batch, as dynamic quantisation does."""
    root = tiny.write_bundle(tmp_path / "tiny" / "1")
    path = root / "fp32" / "decoder.onnx"
    decoder = onnx.load(path)
    (index,) = (i for i, node in enumerate(decoder.graph.node) if node.op_type == "LogSoftmax")
    decoder.graph.node[index].input[0] = "scaled"
    for number, node in enumerate(
        [
            helper.make_node("ReduceMax", ["logits"], ["greatest"], keepdims=0),
            helper.make_node("Sigmoid", ["greatest"], ["scale"]),
            helper.make_node("Mul", ["logits", "scale"], ["scaled"]),
        ]
    ):
        decoder.graph.node.insert(index + number, node)
    path.write_bytes(decoder.SerializeToString())
    manifest = tiny.read_manifest(root)
    del manifest["files"]
    tiny.write_manifest(root, manifest)
    return root


def run(*args: str | Path) -> Any:
    return CliRunner().invoke(bench, [*map(str, args), "--sentences", "15"])


def test_the_command_passes_a_bundle_that_keeps_the_promise(bundle: Path) -> None:
    result = run(bundle, "--lanes", "1,3", "--seed", "9", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["holds"]
    assert set(report["graphs"]) == {"fp32"}
    assert [line["lanes"] for line in report["results"]] == [1] * 7 + [3] * 6
    encoder = report["results"][0]
    assert encoder["requests"] == 6 * tiny.SOURCE_TOKENS
    assert report["machine"]["cores"] >= 1
    assert "1 lane(s) of 64 rows" in result.stderr


def test_the_command_fails_a_bundle_whose_rows_look_at_each_other(leaky: Path) -> None:
    result = run(leaky)
    assert result.exit_code == 1, result.output
    assert "FAIL" in result.stdout
    assert result.stdout.rstrip().endswith("NOT the same under any load")


def test_all_bad_options_are_told_at_once(bundle: Path) -> None:
    result = CliRunner().invoke(
        bench,
        [str(bundle), "--sentences", "0", "--column", "0", "--max-rows", "7", "--precision", "fp8", "--lanes", "2,2"],
    )
    assert (result.exit_code, result.stdout) == (2, "")
    for field in ("sentences = 0", "column = 0", "max_rows = 7", "precision = fp8", "lanes = 2,2"):
        assert field in result.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--lanes", "many"], "lanes = many: numbers with commas"),
        (["--target", "fr"], "target = fr: one of de, en"),
        (["--precision", "int8"], "precision 'int8': the bundle offers fp32"),
        (["--data", "/nowhere"], "data = /nowhere"),
    ],
)
def test_bad_options(bundle: Path, options: list[str], told: str) -> None:
    result = run(bundle, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr
