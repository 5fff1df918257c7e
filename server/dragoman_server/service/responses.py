"""What the engine answered, as messages: the segments' answers joined into one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from dragoman_protos.v1 import inference_pb2
from dragoman_server.codec import Codec
from dragoman_server.decoding.hypothesis import Answer, FinishReason
from dragoman_server.decoding_host import DecodingHost
from dragoman_server.request import Completion, Receipt
from dragoman_server.service.generations import Generation
from dragoman_server.service.segmentation import Span, join
from dragoman_server.service.translations import Segment, Translation
from dragoman_server.service.unknowns import replaced

_FINISH_REASONS = {
    FinishReason.STOP: inference_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: inference_pb2.FINISH_REASON_LENGTH,
    FinishReason.STOP_SEQUENCE: inference_pb2.FINISH_REASON_STOP_SEQUENCE,
}
_WORST_FIRST = (FinishReason.LENGTH, FinishReason.STOP_SEQUENCE)


def answer_text(answer: Answer, segment: Segment, translation: Translation) -> str:
    """The text of one segment's answer."""
    codec = translation.host.codec
    if translation.replaces_unknowns and (unknown := translation.host.unknown_id) is not None:
        stop = segment.options.stop if segment.options else None
        return replaced(answer, translation.source_of(segment), unknown, codec, stop.strings if stop else ())
    return codec.decode(answer.token_ids) if answer.text is None else answer.text


def translate_response(translation: Translation, completions: Sequence[Completion]) -> inference_pb2.TranslateResponse:
    """The whole answer; ``completions`` are those of the translated segments."""
    host = translation.host
    if len(translation.segments) == 1 and len(completions) == 1:
        return _one_segment(translation, completions[0])
    count = min((len(completion.answers) for completion in completions), default=translation.hypotheses)
    hypotheses = []
    for number in range(count):
        answers = [completion.answers[number] for completion in completions]
        texts = [answer_text(*pair, translation) for pair in zip(answers, translation.translated, strict=True)]
        whole, targets = join(translation.text, _spans(translation), list(_all_texts(translation, texts)))
        if not number:
            segments = list(_segments(translation, targets, answers))
        hypotheses.append(_hypothesis(whole, answers, host.codec))
    usage = inference_pb2.Usage(
        source_tokens=sum(len(segment.source_ids) for segment in translation.segments),
        target_tokens=sum(len(answer.log_probs) for completion in completions for answer in completion.answers),
    )
    return inference_pb2.TranslateResponse(
        hypotheses=hypotheses, usage=usage, model=host.name, model_version=host.version, segments=segments
    )


def _one_segment(translation: Translation, completion: Completion) -> inference_pb2.TranslateResponse:
    """The same without joining, as most texts need it."""
    host, text = translation.host, translation.text
    (segment,) = translation.segments
    begin, end = segment.begin, segment.end
    hypotheses = []
    target_tokens = 0
    lengths = []
    for answer in completion.answers:
        translated = answer_text(answer, segment, translation)
        lengths.append(len(translated))
        hypotheses.append(_hypothesis(f"{text[:begin]}{translated}{text[end:]}", [answer], host.codec))
        target_tokens += len(answer.log_probs)
    return inference_pb2.TranslateResponse(
        hypotheses=hypotheses,
        usage=inference_pb2.Usage(source_tokens=len(segment.source_ids), target_tokens=target_tokens),
        model=host.name,
        model_version=host.version,
        segments=[
            inference_pb2.Segment(
                source_begin=begin,
                source_end=end,
                target_begin=begin,
                target_end=begin + lengths[0],
                score=sum(completion.best.log_probs),
            )
        ],
    )


def generate_response(generation: Generation, completions: Sequence[Completion]) -> inference_pb2.GenerateResponse:
    """The whole answer; ``completions`` are those of the text's parts."""
    host, answers = generation.host, generation.answers(completions)
    return inference_pb2.GenerateResponse(
        hypotheses=[_hypothesis(generation.text(answer), [answer], host.codec) for answer in answers],
        usage=inference_pb2.Usage(
            source_tokens=len(generation.prompt_ids), target_tokens=sum(len(answer.log_probs) for answer in answers)
        ),
        model=host.name,
        model_version=host.version,
        discarded_tokens=generation.discarded,
    )


def score_response(host: DecodingHost, source_tokens: int, completion: Completion) -> inference_pb2.ScoreResponse:
    """What a request to score is answered."""
    answer = completion.best
    return inference_pb2.ScoreResponse(
        score=sum(answer.log_probs),
        token_log_probs=answer.log_probs,
        tokens=host.codec.tokens(answer.token_ids),
        usage=inference_pb2.Usage(source_tokens=source_tokens, target_tokens=len(answer.log_probs)),
        model=host.name,
        model_version=host.version,
    )


def joined_receipt(completions: Sequence[Completion]) -> Receipt:
    """One receipt for all segments: the longest wait, the sums of encoding and steps, the mean batch of all steps."""
    receipts = [completion.receipt for completion in completions]
    if len(receipts) == 1:
        return receipts[0]
    steps = sum(receipt.steps for receipt in receipts)
    rows = sum(receipt.batch_mean * receipt.steps for receipt in receipts)
    return Receipt(
        queue_ms=max((receipt.queue_ms for receipt in receipts), default=0.0),
        encode_ms=sum(receipt.encode_ms for receipt in receipts),
        steps=steps,
        batch_mean=rows / steps if steps else 0.0,
        lane=receipts[0].lane if receipts else 0,
        arrived=min((receipt.arrived for receipt in receipts), default=0.0),
    )


def _spans(translation: Translation) -> list[Span]:
    return [(segment.begin, segment.end) for segment in translation.segments]


def _all_texts(translation: Translation, texts: Iterable[str]) -> Iterator[str]:
    translated = iter(texts)
    for segment in translation.segments:
        yield next(translated) if segment.source_ids else translation.source_of(segment)


def _segments(
    translation: Translation, targets: Iterable[Span], answers: Iterable[Answer]
) -> Iterator[inference_pb2.Segment]:
    best = iter(answers)
    for segment, (begin, end) in zip(translation.segments, targets, strict=True):
        yield inference_pb2.Segment(
            source_begin=segment.begin,
            source_end=segment.end,
            target_begin=begin,
            target_end=end,
            score=sum(next(best).log_probs) if segment.source_ids else 0.0,
            copied=not segment.source_ids,
        )


def _hypothesis(text: str, answers: Sequence[Answer], codec: Codec) -> inference_pb2.Hypothesis:
    if len(answers) == 1:
        (answer,) = answers
        token_ids, log_probs, rank, reason = (
            answer.token_ids,
            answer.log_probs,
            answer.rank_score,
            answer.finish_reason,
        )
    else:
        token_ids = [token_id for answer in answers for token_id in answer.token_ids]
        log_probs = [log_prob for answer in answers for log_prob in answer.log_probs]
        rank = sum(answer.rank_score for answer in answers) / max(1, len(answers))
        reasons = {answer.finish_reason for answer in answers}
        reason = next((reason for reason in _WORST_FIRST if reason in reasons), FinishReason.STOP)
    return inference_pb2.Hypothesis(
        text=text,
        tokens=codec.tokens(token_ids),
        score=sum(log_probs),
        token_log_probs=log_probs,
        finish_reason=_FINISH_REASONS[reason],
        rank_score=rank,
    )
