"""Tensors and parameters of the Open Inference Protocol: what is written can be read, and no bytes do harm."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dragoman_protos.open_inference.open_inference_pb2 import InferParameter, ModelInferRequest, ModelInferResponse
from dragoman_protos.v1 import inference_pb2
from dragoman_server.open_inference.parameters import fill, names_of
from dragoman_server.open_inference.tensors import Datatype, Output, strings_of, write

MOST = 8
TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=MOST)
NAMES = names_of(inference_pb2.TranslateRequest(), {"text", "model"})


def raw(texts: list[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def request(texts: list[bytes], *, typed: bool = False, datatype: str = "BYTES") -> ModelInferRequest:
    message = ModelInferRequest()
    tensor = message.inputs.add(name="text", datatype=datatype, shape=[len(texts)])
    if typed:
        tensor.contents.bytes_contents.extend(texts)
    else:
        message.raw_input_contents.append(raw(texts))
    return message


@given(TEXTS, st.booleans())
def test_texts_are_read_from_raw_bytes_and_from_typed_fields(texts: list[str], typed: bool) -> None:
    tensors, violations = strings_of(request([text.encode() for text in texts], typed=typed or not texts), MOST)
    assert not violations
    assert tensors["text"].values == texts
    assert tensors["text"].shape == (len(texts),)


@given(st.binary(max_size=40), st.lists(st.integers(-2, 5), max_size=3))
def test_no_bytes_and_no_shape_do_harm(data: bytes, shape: list[int]) -> None:
    message = ModelInferRequest(raw_input_contents=[data])
    message.inputs.add(name="text", datatype="BYTES", shape=shape)
    tensors, violations = strings_of(message, MOST)
    assert bool(tensors) != bool(violations)
    if tensors:
        assert raw([value.encode() for value in tensors["text"].values]) == data


def test_each_fault_of_a_tensor_is_named() -> None:
    message = request([b"\xff"])
    message.inputs.add(name="stop", datatype="FP32", shape=[1, 2, 3])
    message.raw_input_contents.append(b"")
    _, violations = strings_of(message, MOST)
    assert [violation.field for violation in violations] == ["inputs[0][0]", "inputs[1].datatype", "inputs[1].shape"]


def test_raw_and_typed_contents_exclude_each_other() -> None:
    message = request([b"a"])
    message.inputs[0].contents.bytes_contents.append(b"a")
    _, (violation,) = strings_of(message, MOST)
    assert violation.field == "inputs[0].contents"


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=6), st.lists(st.binary(max_size=5), max_size=6))
def test_raw_and_typed_answers_say_the_same(numbers: list[float], strings: list[bytes]) -> None:
    outputs = [
        Output("score", Datatype.FP32, (len(numbers),), numbers),
        Output("text", Datatype.BYTES, (len(strings),), strings),
        Output("flag", Datatype.BOOL, (2,), [True, False]),
        Output("count", Datatype.UINT32, (1,), [7]),
    ]
    typed, packed = ModelInferResponse(), ModelInferResponse()
    write(typed, outputs, raw=False)
    write(packed, outputs, raw=True)
    assert [output.name for output in packed.outputs] == [output.name for output in typed.outputs]
    score, text, flag, count = packed.raw_output_contents
    assert np.frombuffer(score, "<f4").tolist() == list(typed.outputs[0].contents.fp32_contents) == numbers
    assert text == raw(list(typed.outputs[1].contents.bytes_contents)) == raw(strings)
    assert np.frombuffer(flag, "?").tolist() == list(typed.outputs[2].contents.bool_contents) == [True, False]
    assert np.frombuffer(count, "<u4").tolist() == list(typed.outputs[3].contents.uint_contents) == [7]


def test_parameters_are_fields_of_the_request_and_of_its_options() -> None:
    message = inference_pb2.TranslateRequest()
    parameters = {
        "target_language": InferParameter(string_param="de"),
        "priority": InferParameter(uint64_param=3),
        "beam_size": InferParameter(int64_param=4),
        "length_penalty": InferParameter(double_param=0.5),
        "temperature": InferParameter(string_param="0.75"),
        "early_stopping": InferParameter(bool_param=True),
        "length_normalisation": InferParameter(string_param="LENGTH_NORMALISATION_WU"),
    }
    assert not fill(message, parameters, {"text", "model"})
    assert message == inference_pb2.TranslateRequest(
        target_language="de",
        priority=3,
        options=inference_pb2.DecodingOptions(
            beam_size=4,
            length_penalty=0.5,
            temperature=0.75,
            early_stopping=True,
            length_normalisation=inference_pb2.LENGTH_NORMALISATION_WU,
        ),
    )


PARAMETER = st.one_of(
    st.just(InferParameter()),
    st.booleans().map(lambda value: InferParameter(bool_param=value)),
    st.integers(-(2**63), 2**63 - 1).map(lambda value: InferParameter(int64_param=value)),
    st.integers(0, 2**64 - 1).map(lambda value: InferParameter(uint64_param=value)),
    st.text(max_size=5).map(lambda value: InferParameter(string_param=value)),
    st.floats().map(lambda value: InferParameter(double_param=value)),
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from([*NAMES, "text", "model", "stop", "nothing"]), PARAMETER))
def test_every_parameter_is_set_or_named_as_a_fault(parameters: dict[str, InferParameter]) -> None:
    message = inference_pb2.TranslateRequest()
    violations = fill(message, parameters, {"text", "model"})
    faulty = {violation.field.removeprefix("parameters.") for violation in violations}
    assert len(violations) + len(set(NAMES) & parameters.keys() - faulty) == len(parameters)
    assert not message.text
    assert not message.model
    assert not message.options.stop
