"""Which answers are the ones that a request has alone."""

from __future__ import annotations

import pytest

from dragoman import InternalError
from dragoman.load.answers import WRONG, Expected
from dragoman.load.queries import CLASSIFY, Query, classification, continuation, translation
from dragoman_protos.v1 import inference_pb2

QUERY = translation("short", "Hello.", "de")


def response(text: str = "Hallo.", score: float = -0.5, model: str = "exact") -> inference_pb2.TranslateResponse:
    best = inference_pb2.Hypothesis(text=text, tokens=[text], score=score, token_log_probs=[score])
    usage = inference_pb2.Usage(source_tokens=4, target_tokens=3)
    return inference_pb2.TranslateResponse(hypotheses=[best], usage=usage, model=model, model_version="1")


def expected(query: Query, *messages: bytes) -> Expected:
    found = Expected({"exact": "int8", "rounding": "fp32"})
    found.keep(query, messages)
    return found


def test_int8_is_compared_to_the_bit() -> None:
    known = expected(QUERY, response().SerializeToString())
    assert known.tokens(QUERY) == 3
    assert known.fault(QUERY, [response().SerializeToString()]) is None
    for other in (response("Hallo!"), response(score=-0.50001), response(model="other")):
        assert known.fault(QUERY, [other.SerializeToString()]) == WRONG


def test_other_precisions_may_round() -> None:
    known = expected(QUERY, response(model="rounding").SerializeToString())
    assert known.fault(QUERY, [response(score=-0.50001, model="rounding").SerializeToString()]) is None
    more = response(model="rounding")
    more.hypotheses[0].token_log_probs.append(-0.5)
    fewer = response(model="rounding")
    fewer.ClearField("usage")
    for other in (response("Hallo!", model="rounding"), response(score=-0.6, model="rounding"), more, fewer):
        assert known.fault(QUERY, [other.SerializeToString()]) == WRONG


def stream(response: inference_pb2.TranslateResponse, *deltas: str) -> list[bytes]:
    chunks = [inference_pb2.TranslateChunk(final_text_delta=delta) for delta in deltas]
    chunks[-1].response.CopyFrom(response)
    return [chunk.SerializeToString() for chunk in chunks]


def test_of_a_stream_the_answer_counts_however_it_was_cut() -> None:
    query = translation("stream", "Hello.", "de", stream=True)
    known = expected(query, *stream(response(), "Hal", "lo."))
    assert known.fault(query, stream(response(), "H", "allo", ".", "")) is None
    assert known.fault(query, stream(response(), "Hallo.")) is None
    for wrong in (stream(response(), "Hallo"), stream(response("Hallo!"), "Hallo!"), stream(response(), "Hallo.")[:0]):
        assert known.fault(query, wrong) == WRONG
    cut = [inference_pb2.TranslateChunk(final_text_delta="Hallo.").SerializeToString()]
    assert known.fault(query, cut) == WRONG


def test_what_cannot_be_read_is_wrong_and_no_answer_to_begin_with() -> None:
    known = expected(QUERY, response().SerializeToString())
    assert known.fault(QUERY, [b"\xff\xff"]) == WRONG
    query = continuation("generate", "Once", 5, seed=None)
    with pytest.raises(InternalError, match="breaks the protocol"):
        expected(query, inference_pb2.GenerateChunk(final_text_delta="x").SerializeToString())


def test_of_what_is_only_read_the_tokens_read_count() -> None:
    query = classification("classify", "hello")
    assert query.call is CLASSIFY
    message = inference_pb2.ClassifyResponse(usage=inference_pb2.Usage(source_tokens=3), model="exact")
    assert expected(query, message.SerializeToString()).tokens(query) == 3
