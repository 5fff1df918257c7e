"""Messages as JSON: what is read, what is refused and under which name, what is written."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_protos.v1 import inference_pb2
from dragoman_server.errors import InvalidArgument
from dragoman_server.web.json_messages import encoded, parsed, read_message, written

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
_NAMES = st.sampled_from(["text", "options", "stop", "seed", "segmentation", "priority", "beam_size", "temperature"])


def faults(body: Any) -> list[tuple[str, str, str]]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(InvalidArgument) as refused:
        read_message(parsed(data), inference_pb2.TranslateRequest)
    return [(fault.field, fault.value, fault.limit) for fault in refused.value.violations]


def test_a_message_is_read_as_protobuf_reads_it() -> None:
    given = {
        "text": "ä\n",
        "segmentation": "SEGMENTATION_NONE",
        "priority": 9,
        "model": None,
        "options": {"seed": "18446744073709551615", "temperature": 0.25, "stop": ["a", "b"], "early_stopping": False},
    }
    read = read_message(parsed(json.dumps(given).encode()), inference_pb2.TranslateRequest)
    assert read == json_format.ParseDict(given, inference_pb2.TranslateRequest())
    assert read.options.HasField("early_stopping")
    assert read_message({"options": {}}, inference_pb2.TranslateRequest).HasField("options")


@pytest.mark.parametrize(
    ("body", "field", "value"),
    [
        ({"text": 1}, "text", "1"),
        ({"text": True}, "text", "true"),
        ({"text": ["a"]}, "text", "a list"),
        ({"text": "\ud800"}, "text", "'\\ud800'"),
        ({"priority": -1}, "priority", "-1"),
        ({"priority": 1.5}, "priority", "1.5"),
        ({"priority": 1 << 32}, "priority", "4294967296"),
        ({"priority": 1e300}, "priority", "1e+300"),
        ({"segmentation": "NO"}, "segmentation", "'NO'"),
        ({"options": []}, "options", "a list"),
        ({"options": {"stop": "a"}}, "options.stop", "'a'"),
        ({"options": {"stop": [{}]}}, "options.stop[0]", "an object"),
        ({"options": {"stop": [None]}}, "options.stop[0]", "null"),
        ({"options": {"stop": ["a"] * 5000}}, "options.stop", "5000 elements"),
        ({"options": {"seed": 1 << 64}}, "options.seed", "18446744073709551616"),
        ({"targetLanguage": "de"}, "targetLanguage", "unknown"),  # the protos' names alone
        ({"a\nb": 1}, "'a\\nb'", "unknown"),
        (b'{"priority": 1e999}', "priority", "Infinity"),
        (b'{"priority": NaN}', "body", "NaN"),
        (b'{"text": "a", "text": "b"}', "text", "given twice"),
        (b"[]", "body", "a list"),
        (b"null", "body", "null"),
        (b"", "body", "no JSON at character 1"),
        (b'{"a": \xff}', "body", "no UTF-8 at byte 7"),
        (b'{"priority": ' + b"9" * 5000 + b"}", "body", "a number that is too long"),
    ],
)
def test_each_fault_is_named(body: Any, field: str, value: str) -> None:
    ((found_field, found_value, limit),) = faults(body)
    assert (found_field, found_value) == (field, value)
    assert limit


def test_faults_are_listed_up_to_a_bound() -> None:
    assert len(faults({f"x{number}": 1 for number in range(20_000)})) == 32
    doubled = b"{" + b",".join(b'"x%d":1' % (number // 2) for number in range(20_000)) + b"}"
    assert len(faults(doubled)) == 32


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(_NAMES | st.text(), _JSON, max_size=5), st.booleans())
def test_nothing_that_is_sent_raises_anything_else(body: dict[str, Any], inside: bool) -> None:
    sent = json.dumps({"options": body} if inside else body).encode()
    with contextlib.suppress(InvalidArgument):
        read = read_message(parsed(sent), inference_pb2.TranslateRequest)
        assert read_message(written(read), inference_pb2.TranslateRequest) == read


def test_what_is_written_has_every_field_that_cannot_be_absent() -> None:
    assert written(inference_pb2.TranslateChunk()) == {"final_text_delta": "", "provisional_text": ""}
    assert written(inference_pb2.Usage(source_tokens=3)) == {"source_tokens": 3, "target_tokens": 0}
    assert encoded({"a": "ä"}) == '{"a":"ä"}'.encode()
