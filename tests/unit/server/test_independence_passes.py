"""The proof for encoders must see a difference where there is one, and none where there is none."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from dragoman_protos.v1.bundle_pb2 import Bundle, Dimensions, Limits, SpecialIds
from dragoman_server.errors import InvalidArgument
from dragoman_server.independence.pass_texts import hide_some, texts_of_every_length
from dragoman_server.independence.passes import PassSubject, check_passes, compare_passes
from dragoman_server.independence.running import Options, run
from dragoman_server.pass_runtime import EncoderInput, EncoderOutput
from dragoman_server.progress import Stages
from tests.unit.server import tiny_encoder

INPUTS = [EncoderInput([2, *range(5, 5 + length), 3], mask_positions=(1,)) for length in (1, 4, 2, 7, 3)]


class FakePasses:
    """Every number of an output is made of the text alone, or of the whole pass where ``leaks`` says so."""

    max_rows, source_capacity = 3, 16

    def __init__(self, leaks: float = 0.0) -> None:
        self.leaks = leaks
        self.passes: list[int] = []

    def warm_up(self) -> None:
        """Nothing is slow."""

    def run(self, inputs: Sequence[EncoderInput]) -> list[EncoderOutput]:
        self.passes.append(len(inputs))
        time.sleep(0.001)  # meanwhile others come
        outputs = []
        for text in inputs:
            ids = np.array(text.ids, np.float32)
            wrong = np.float32(self.leaks if len(inputs) > 1 else 0.0)
            states = np.stack([ids, ids + wrong], axis=-1)
            outputs.append(EncoderOutput(states, states[0], tag_logits=states, mask_logits=states[:1]))
        return outputs


def test_equal_outputs_are_found_equal_in_every_kind() -> None:
    runtime = FakePasses()
    done: list[int] = []
    found = compare_passes(runtime, INPUTS, seed=1, advance=done.append)
    assert sum(done) == 4 * len(INPUTS)
    assert all(1 <= size <= runtime.max_rows for size in runtime.passes)
    assert any(size > 1 for size in runtime.passes)
    assert list(found) == ["states", "labels", "tags", "masks"]
    for kind, comparison in found.items():
        assert comparison.requests == 3 * len(INPUTS)
        assert comparison.holds("int8")
        assert (comparison.tokens > 0) == (kind != "states")


def test_a_neighbour_that_changes_a_bit_is_found() -> None:
    found = compare_passes(FakePasses(leaks=1e-3), INPUTS, seed=1, advance=lambda count: None)
    assert all(comparison.different_scores for comparison in found.values())
    assert not any(comparison.holds("int8") for comparison in found.values())
    assert not any(comparison.holds("fp32") for comparison in found.values())
    assert found["labels"].different_tokens
    assert found["labels"].parted


def test_a_head_that_is_not_there_is_not_compared() -> None:
    class Bare(FakePasses):
        def run(self, inputs: Sequence[EncoderInput]) -> list[EncoderOutput]:
            return [EncoderOutput(output.states) for output in super().run(inputs)]

    assert list(compare_passes(Bare(), INPUTS, seed=1, advance=lambda count: None)) == ["states"]


def silent() -> Stages:
    return Stages(Console(quiet=True))


@pytest.mark.parametrize("leaks", [0.0, 1e-3])
def test_under_load_a_neighbour_that_changes_a_bit_is_found(leaks: float) -> None:
    subject = PassSubject("int8", lambda rows: FakePasses(leaks))
    inputs = [EncoderInput([2, *range(5, 6 + number % 9), 3]) for number in range(60)]
    results, company = check_passes(subject, inputs, lanes=[1], max_rows=3, seed=1, stages=silent())
    assert [result.kind for result in results] == ["states", "labels", "tags", "masks"]
    assert all(result.holds == (leaks == 0.0) for result in results)
    assert all(result.comparison.requests >= 3 * len(inputs) for result in results)
    assert company[0].outcomes["Cancelled"] > 0


def test_a_bundle_is_proved_and_the_graphs_are_named(tmp_path: Path) -> None:
    bundle = tiny_encoder.write_bundle(tmp_path / "1")
    report = run(Options(bundle=bundle, sentences=30, lanes=[1], max_rows=16), silent())
    assert report.holds
    assert [list(graphs) for graphs in report.graphs.values()] == [["encoder"]]
    with pytest.raises(InvalidArgument, match="does not translate"):
        run(Options(bundle=bundle, sentences=3, target="de"), silent())


def test_texts_of_every_length_hold_pairs_and_hidden_tokens() -> None:
    manifest = Bundle(
        tasks=[Bundle.TASK_FILL_MASK],
        dimensions=Dimensions(segments=2),
        special_ids=SpecialIds(cls=2, sep=3, mask=4),
        limits=Limits(source_tokens=12),
    )
    texts = texts_of_every_length(manifest, words=[7, 8, 9], seed=1)
    assert sorted(len(text.ids) for text in texts) == sorted([*range(3, 13)] * 2)
    assert any(text.segments and 1 in text.segments for text in texts)
    for text in texts:
        assert [text.ids[place] for place in text.mask_positions] == [4] * len(text.mask_positions)
    assert any(text.mask_positions for text in texts)
    assert any(not text.mask_positions for text in texts)
    manifest.tasks[:] = [Bundle.TASK_EMBED]
    assert hide_some(texts, manifest, seed=1) == texts
