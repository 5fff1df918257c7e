"""A pass over many texts against each text by itself, and against a plain padded run of the same graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_protos.v1.bundle_pb2 import Dimensions, Limits
from dragoman_server.pass_runtime import EncoderInput, EncoderOutput, OnnxPassRuntime
from tests.unit.server import tiny, tiny_encoder

VOCABULARY = 300
LIMITS = Limits(source_tokens=tiny_encoder.SOURCE_TOKENS)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graphs") / "encoder.onnx"
    path.write_bytes(tiny_encoder.build_encoder(VOCABULARY).SerializeToString())
    return path


@pytest.fixture(scope="module")
def runtime(encoder: Path) -> OnnxPassRuntime:
    runtime = OnnxPassRuntime(encoder, dimensions=Dimensions(segments=2), limits=LIMITS, max_rows=8)
    runtime.warm_up()
    return runtime


@st.composite
def texts(draw: st.DrawFn) -> EncoderInput:
    """[CLS] words [SEP], or a pair with its segments, with any places to be filled."""
    words = st.lists(st.integers(5, VOCABULARY - 1), min_size=1, max_size=12)
    first = [tiny_encoder.CLS, *draw(words), tiny_encoder.SEP]
    second = [*draw(words), tiny_encoder.SEP] if draw(st.booleans()) else []
    ids = first + second
    segments = [0] * len(first) + [1] * len(second) if second else None
    return EncoderInput(ids, segments, tuple(draw(st.lists(st.integers(0, len(ids) - 1), max_size=3, unique=True))))


def assert_equal(one: EncoderOutput, two: EncoderOutput) -> None:
    for a, b in zip(one, two, strict=True):
        assert a is not None
        assert b is not None
        np.testing.assert_allclose(a, b, atol=1e-5)


@given(st.lists(texts(), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_a_text_is_answered_in_company_as_it_is_alone(runtime: OnnxPassRuntime, inputs: list[EncoderInput]) -> None:
    outputs = runtime.run(inputs)
    assert len(outputs) == len(inputs)
    for text, output in zip(inputs, outputs, strict=True):
        length = len(text.ids)
        shapes = [None if values is None else values.shape for values in output]
        assert shapes == [
            (length, tiny.D_MODEL),
            (len(tiny_encoder.LABELS),),
            (length, len(tiny_encoder.TAGS)),
            (len(text.mask_positions), VOCABULARY),
        ]
        assert_equal(output, runtime.run([text])[0])


def test_outputs_are_those_of_the_text_and_not_of_its_neighbours(encoder: Path, runtime: OnnxPassRuntime) -> None:
    """One text, fed to the graph by hand, with padding after it: what packing saves must not be seen."""
    ids, places = [2, 40, 41, 3, 50, 3], [1, 4]
    length, padded = len(ids), 10
    session = ort.InferenceSession(encoder, disabled_optimizers=["SkipLayerNormFusion"])
    names = ["states", "label_logits", "tag_logits", "mask_logits"]
    states, labels, tags, masks = session.run(
        names,
        {
            "input_ids": np.array(ids),
            "positions": np.arange(length),
            "segments": np.array([0, 0, 0, 0, 1, 1]),
            "padded_index": np.array([[*range(length), *[0] * (padded - length)]]),
            "attention_mask": np.array([[1] * length + [0] * (padded - length)], np.int32),
            "packed_index": np.arange(length),
            "first_index": np.array([0]),
            "mask_index": np.array(places),
        },
    )
    company = [EncoderInput([2, 99, 98, 97, 3], mask_positions=(2,)), EncoderInput([2, *[7] * 25, 3])]
    found = runtime.run([company[0], EncoderInput(ids, [0, 0, 0, 0, 1, 1], places), company[1]])[1]
    assert_equal(found, EncoderOutput(states, labels[0], tags, masks))


def test_the_second_text_of_a_pair_is_told_from_the_first(runtime: OnnxPassRuntime) -> None:
    ids = [2, 40, 3, 50, 3]
    pair, one = runtime.run([EncoderInput(ids, [0, 0, 0, 1, 1]), EncoderInput(ids)])
    assert pair.label_logits is not None
    assert one.label_logits is not None
    assert not np.allclose(pair.label_logits, one.label_logits)
    assert_equal(one, runtime.run([EncoderInput(ids, [0] * 5)])[0])


def test_all_faults_are_named_at_once(runtime: OnnxPassRuntime) -> None:
    with pytest.raises(ValueError, match="9 texts: 1 to 8"):
        runtime.run([EncoderInput([2, 3])] * 9)
    with pytest.raises(ValueError, match="0 texts: 1 to 8"):
        runtime.run([])
    bad = [
        EncoderInput([]),
        EncoderInput([2] * 33),
        EncoderInput([2, 3], [0]),
        EncoderInput([2, 3], [0, 2]),
        EncoderInput([2, 3], mask_positions=(2,)),
    ]
    with pytest.raises(ValueError, match="text 0") as caught:
        runtime.run(bad)
    assert str(caught.value).split("; ") == [
        "text 0 has 0 tokens: 1 to 32",
        "text 1 has 33 tokens: 1 to 32",
        "text 2: segments = [0]: one for each token, 0 to 1",
        "text 3: segments = [0, 2]: one for each token, 0 to 1",
        "text 4: mask_positions = [2]: each 0 to 1",
    ]


def test_a_runtime_holds_one_text_at_least(encoder: Path) -> None:
    with pytest.raises(ValueError, match="max_rows = 0"):
        OnnxPassRuntime(encoder, dimensions=Dimensions(segments=2), limits=LIMITS, max_rows=0)
