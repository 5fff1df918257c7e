"""Whether a token ends a hypothesis, and the answer that it then is."""

from __future__ import annotations

from dragoman_server.decoding.hypothesis import Answer, FinishReason, Hypothesis
from dragoman_server.decoding.options import DecodingOptions


def ended(hypothesis: Hypothesis, token_id: int, log_prob: float, options: DecodingOptions, eos: int) -> Answer | None:
    """The answer that the hypothesis with this token more is; None where it goes on. The hypothesis stays as it is."""
    ids = hypothesis.token_ids
    text = None
    if token_id == eos:
        reason, ids = FinishReason.STOP, list(ids)
    elif options.stop and (text := options.stop.cut([*ids, token_id])) is not None:
        reason, ids = FinishReason.STOP_SEQUENCE, [*ids, token_id]
    elif len(ids) + 1 >= options.max_length:
        reason, ids = FinishReason.LENGTH, [*ids, token_id]
    else:
        return None
    log_probs = [*hypothesis.log_probs, log_prob]
    return Answer(ids, log_probs, reason, options.length_penalty.rank(sum(log_probs), len(log_probs)), text)


def answered(hypothesis: Hypothesis, reason: FinishReason, options: DecodingOptions) -> Answer:
    """The answer that a hypothesis is which has ended, its last token included."""
    log_probs = hypothesis.log_probs
    rank = options.length_penalty.rank(sum(log_probs), len(log_probs))
    return Answer(hypothesis.token_ids, log_probs, reason, rank)
