"""The proof for encoders must see a difference where there is one, and none where there is none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dragoman_server.independence.passes import compare_passes
from dragoman_server.pass_runtime import EncoderInput, EncoderOutput

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
