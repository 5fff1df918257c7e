from __future__ import annotations

import math

import numpy as np
import pytest

from dragoman_server.decoding.batch import Advance, Batch
from dragoman_server.decoding.hypothesis import FinishReason, NonFiniteScoreError
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.request import Request
from dragoman_server.rows import Move
from dragoman_server.runtime import StepOutput
from tests.unit.server.toy_model import BOS, EOS, ToyRuntime


def request(max_length: int) -> Request:
    return Request((9, 5), DecodingOptions(max_length=max_length), lambda outcome: None)


def batch_of(*requests: Request) -> Batch:
    batch = Batch(ToyRuntime(8), eos=EOS)
    assert [batch.join(joiner, BOS) for joiner in requests] == list(range(len(requests)))
    return batch


def feed(batch: Batch, *best: tuple[int, float]) -> Advance:
    """One step whose likeliest tokens are these, row by row."""
    ids, log_probs = zip(*best, strict=True)
    return batch.advance(StepOutput(np.array(log_probs, np.float32)[:, None], np.array(ids)[:, None]))


def settle(batch: Batch) -> list[list[Move]]:
    """What moves before the next step."""
    return list(map(list, batch.settle()))


def test_begin_of_sentence_is_fed_first_and_then_what_came() -> None:
    batch = batch_of(request(3), request(3))
    assert batch.tokens.tolist() == [BOS, BOS]
    assert not batch.needs_logits
    advance = feed(batch, (8, -0.5), (9, -0.5))
    assert (advance.finished, advance.failed, advance.copies) == ([], {}, [])
    assert batch.tokens.tolist() == [8, 9]


def test_end_of_sentence_stops_and_is_scored_but_not_kept() -> None:
    caller = request(3)
    batch = batch_of(caller)
    feed(batch, (8, -0.5))
    assert feed(batch, (EOS, -0.25)).finished == [caller]
    (answer,) = caller.answers
    assert (answer.token_ids, answer.log_probs, answer.finish_reason) == ([8], [-0.5, -0.25], FinishReason.STOP)
    assert answer.rank_score == -0.375
    assert batch.rows.used == 0


def test_max_length_counts_end_of_sentence() -> None:
    caller, short = request(2), request(1)
    batch = batch_of(caller, short)
    assert feed(batch, (8, -0.5), (EOS, -0.5)).finished == [short]
    assert short.answers[0].finish_reason is FinishReason.STOP
    assert feed(batch, (9, -0.5)).finished == [caller]
    (answer,) = caller.answers
    assert (answer.token_ids, answer.log_probs, answer.finish_reason) == ([8, 9], [-0.5, -0.5], FinishReason.LENGTH)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_fails_its_request_alone(score: float) -> None:
    broken, other = request(3), request(3)
    batch = batch_of(broken, other)
    feed(batch, (8, -0.5), (9, -0.5))
    advance = feed(batch, (8, score), (7, -0.5))
    assert (list(advance.failed), advance.finished) == ([broken], [])
    fault = advance.failed[broken]
    assert isinstance(fault, NonFiniteScoreError)
    assert "at step 2" in str(fault)
    assert settle(batch) == [[Move(1, 0)]]
    assert batch.tokens.tolist() == [7]
    assert batch.table.token_ids(0) == [9, 7]


def test_each_reads_its_own_row_and_the_last_moves_into_the_hole() -> None:
    first, second, third = (request(length) for length in (5, 5, 2))
    batch = batch_of(first, second, third)
    feed(batch, (7, -1.0), (8, -2.0), (9, -3.0))
    advance = feed(batch, (17, -1.0), (EOS, -2.0), (19, -3.0))
    assert advance.finished == [second, third]
    assert advance.copies == []
    assert third.answers[0].token_ids == [9, 19]
    fourth = request(5)
    assert batch.join(fourth, BOS) == 1
    advance = feed(batch, (EOS, -1.0), (6, -2.0))
    assert advance.finished == [first]
    assert first.answers[0].log_probs == [-1.0, -1.0, -1.0]
    assert settle(batch) == [[Move(1, 0)]]
    assert batch.tokens.tolist() == [6]


def test_those_that_leave_make_room_and_strangers_are_passed_over() -> None:
    callers = [request(5) for _ in range(4)]
    batch = batch_of(*callers)
    feed(batch, (5, -1.0), (6, -1.0), (7, -1.0), (8, -1.0))
    batch.leave([callers[0], callers[2], request(1)])
    assert settle(batch) == [[Move(3, 0)]]
    assert batch.tokens.tolist() == [8, 6]
    batch.clear()
    assert (batch.rows.used, batch.rows.free_rows) == (0, 8)
