from __future__ import annotations

import numpy as np
import pytest

from dragoman_server.pass_request import PassCompletion
from dragoman_server.pass_runtime import EncoderOutput
from dragoman_server.service.reading_jobs import receipt_of
from dragoman_server.submission import Receipt

OUTPUT = EncoderOutput(np.zeros((3, 2), np.float32))


def read(lane: int, number: int, *, queue: float, seconds: float, texts: int) -> PassCompletion:
    return PassCompletion(OUTPUT, Receipt(queue, seconds * 1e3, 1, texts, lane), number)


def test_a_pass_counts_once_however_many_texts_it_read() -> None:
    receipt = receipt_of(
        [
            read(1, 0, queue=4, seconds=0.5, texts=6),
            read(1, 0, queue=2, seconds=0.5, texts=6),
            read(0, 0, queue=9, seconds=0.25, texts=1),
            read(1, 1, queue=1, seconds=0.25, texts=2),
        ]
    )
    assert (receipt.queue_ms, receipt.encode_ms, receipt.steps, receipt.lane) == (9, 1000, 3, 1)
    assert receipt.batch_mean == pytest.approx(3)
