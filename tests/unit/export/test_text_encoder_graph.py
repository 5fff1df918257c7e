"""The graph of an encoder against the model in PyTorch, in float32 and in int8."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_export.encoder_passes import by_pytorch, largest_difference, run_all
from dragoman_export.encoder_quantization import observe_encoder, quantized_encoders
from dragoman_export.quantization_plan import ATTEMPTS, Attempt
from dragoman_export.text_encoder_graph import export_text_encoder
from dragoman_model.text_encoder import TextEncoder
from dragoman_protos.v1.bundle_pb2 import Bundle, Classifier, Dimensions, Limits, Tagger
from dragoman_server.graphs_understanding import check_text_encoder
from dragoman_server.pass_runtime import EncoderInput, EncoderOutput, OnnxPassRuntime
from tests.unit.export import tiny_text_encoder

INPUTS = [
    EncoderInput([2, 17, 40, 3], mask_positions=(1,)),
    EncoderInput([2, 30, 31, 3, 33, 34, 3], [0, 0, 0, 0, 1, 1, 1], (2, 5)),
    EncoderInput([2, 250, 3]),
    EncoderInput([2, *range(60, 90), 3], mask_positions=(7,)),
]

CHOICES: dict[str, dict[str, Any]] = {
    "all": {"segments": 2, "labels": ["a", "b", "c"], "tags": ["x", "y"], "mask_head": True},
    "post-relu-sinusoidal-tags": {"norm": "post", "activation": "relu", "positions": "sinusoidal", "tags": ["x", "y"]},
}


class Exported(NamedTuple):
    """A model and its float32 graph."""

    model: TextEncoder
    path: Path

    @property
    def inputs(self) -> list[EncoderInput]:
        """Those that the model takes."""
        config = self.model.config
        return [
            EncoderInput(
                text.ids, text.segments if config.segments else None, text.mask_positions if config.mask_head else ()
            )
            for text in INPUTS
        ]

    def runtime(self, path: Path | None = None) -> OnnxPassRuntime:
        """Over the float32 graph, or another."""
        dimensions = Dimensions(segments=self.model.config.segments)
        return OnnxPassRuntime(path or self.path, dimensions=dimensions, limits=Limits(source_tokens=48), max_rows=64)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    model = tiny_text_encoder.make_model(**CHOICES["all"])
    return Exported(model, export_text_encoder(model, tmp_path_factory.mktemp("graphs") / "fp32"))


@pytest.fixture(scope="module", params=CHOICES)
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, everything: Exported
) -> Exported:
    if request.param == "all":
        return everything
    model = tiny_text_encoder.make_model(**CHOICES[request.param])
    return Exported(model, export_text_encoder(model, tmp_path_factory.mktemp("graphs") / "fp32"))


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory, everything: Exported) -> OnnxPassRuntime:
    observed = observe_encoder(everything.path, everything.inputs, threads=1)
    variants = quantized_encoders(observed, tmp_path_factory.mktemp("int8"), [Attempt("range")])
    return everything.runtime(next(iter(variants)).path)


def test_every_output_is_pytorchs(exported: Exported) -> None:
    expected = run_all(by_pytorch(exported.model), exported.inputs)
    found = run_all(exported.runtime().run, exported.inputs)
    assert largest_difference(expected, found) < 5e-5


def test_the_server_finds_the_ports_that_it_wants(exported: Exported) -> None:
    config = exported.model.config
    tasks = [Bundle.TASK_EMBED]
    tasks += [Bundle.TASK_CLASSIFY] if config.labels else []
    tasks += [Bundle.TASK_TAG] if config.tags else []
    tasks += [Bundle.TASK_FILL_MASK] if config.mask_head else []
    manifest = Bundle(
        tasks=tasks,
        dimensions=Dimensions(vocabulary=config.vocabulary, d_model=config.d_model, segments=config.segments),
        classifier=Classifier(labels=config.labels),
        tagger=Tagger(tags=config.tags),
    )
    assert check_text_encoder(exported.path, manifest) == []
    manifest.tasks.remove(Bundle.TASK_EMBED)
    manifest.dimensions.d_model += 1
    assert check_text_encoder(exported.path, manifest) == ["encoder output states: dimension 1 is 32, expected 33"]


def test_a_model_without_heads_gives_states_alone_and_nothing_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_text_encoder.make_model(encoder_layers=1)
    exported = Exported(model, export_text_encoder(model, tmp_path))
    assert capsys.readouterr().out == ""
    found = run_all(exported.runtime().run, exported.inputs)
    assert all(output[1:] == (None, None, None) for output in found)
    assert largest_difference(run_all(by_pytorch(model), exported.inputs), found) < 5e-5


def test_every_way_to_quantise_stays_near_float_and_says_what_it_is(everything: Exported, tmp_path: Path) -> None:
    expected = run_all(by_pytorch(everything.model), everything.inputs)
    observed = observe_encoder(everything.path, everything.inputs, threads=1)
    descriptions = []
    for variant in quantized_encoders(observed, tmp_path / "int8"):
        found = run_all(everything.runtime(variant.path).run, everything.inputs)
        assert 0 < largest_difference(expected, found) < 1.0
        descriptions.append(variant.description)
    assert len(set(descriptions)) == len(ATTEMPTS)


def assert_same_bits(one: EncoderOutput, two: EncoderOutput) -> None:
    for a, b in zip(one, two, strict=True):
        assert a is not None
        assert b is not None
        assert a.tobytes() == b.tobytes()


@st.composite
def texts(draw: st.DrawFn) -> EncoderInput:
    words = st.lists(st.integers(5, 299), min_size=1, max_size=20)
    first, second = [2, *draw(words), 3], [*draw(words), 3] if draw(st.booleans()) else []
    ids = first + second
    places = draw(st.lists(st.integers(0, len(ids) - 1), max_size=3, unique=True))
    return EncoderInput(ids, [0] * len(first) + [1] * len(second), tuple(places))


@given(st.lists(texts(), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_int8_gives_the_same_bits_alone_and_in_any_company(int8: OnnxPassRuntime, inputs: list[EncoderInput]) -> None:
    for text, together in zip(inputs, int8.run(inputs), strict=True):
        assert_same_bits(together, int8.run([text])[0])


def test_int8_gives_the_same_bits_at_every_length(int8: OnnxPassRuntime) -> None:
    inputs = [EncoderInput([2, *range(5, 3 + length), 3], mask_positions=(1,)) for length in range(3, 49)]
    for text, together in zip(inputs, int8.run(inputs), strict=True):
        assert_same_bits(together, int8.run([text])[0])


def test_masks_may_be_none_at_all_in_int8(int8: OnnxPassRuntime) -> None:
    output = int8.run([EncoderInput([2, 40, 3])])[0]
    assert output.mask_logits is not None
    assert output.mask_logits.shape == (0, 300)
    assert np.isfinite(output.states).all()
