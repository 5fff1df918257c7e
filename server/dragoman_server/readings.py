"""What an encoder's numbers say: labels, spans, what a mask hides, and vectors. Each text by itself."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dragoman_protos.v1.bundle_pb2 import Classifier, Tagger
from dragoman_server.encoder_codec import Words
from dragoman_server.pass_runtime import EncoderOutput

Doubles = npt.NDArray[np.float64]
_INSIDE, _OUTSIDE = "I-", "O"
_PREFIX = 2
"""Letters of "B-" and "I-"."""


class TagSpan(NamedTuple):
    """A tag and the code points that it stands for."""

    tag: str
    begin: int
    end: int
    probability: float
    """Of its first word's tag."""


class Scored(NamedTuple):
    """One of several answers, by its number."""

    number: int
    probability: float


def softmax(logits: npt.NDArray[Any]) -> Doubles:
    """exp(x) / sum of exp(x) over the last axis, of the same shape."""
    x = logits.astype(np.float64)
    powers: Doubles = np.exp(x - x.max(axis=-1, keepdims=True))
    shares: Doubles = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def sigmoid(logits: npt.NDArray[Any]) -> Doubles:
    """1 / (1 + exp(-x)), of the same shape."""
    probabilities: Doubles = (1 + np.tanh(logits.astype(np.float64) / 2)) / 2
    return probabilities


def labels(output: EncoderOutput, classifier: Classifier) -> list[Scored]:
    """Every label, likeliest first; of equals the one that stands first in the bundle."""
    assert output.label_logits is not None
    probabilities = (sigmoid if classifier.multi_label else softmax)(output.label_logits)
    return _best(probabilities, len(probabilities))


def out_of_scope(likeliest: Scored, classifier: Classifier) -> bool | None:
    """Whether the likeliest label is too unlikely; None for a model that has no threshold."""
    if not classifier.HasField("out_of_scope_threshold"):
        return None
    return likeliest.probability < classifier.out_of_scope_threshold


def spans(output: EncoderOutput, words: Words, tagger: Tagger) -> list[TagSpan]:
    """The tag of each word is that of its first piece (Devlin et al. 2019, section 5.3); [CLS] stands before them all.

    With ``tagger.bio``, a B- tag and the I- tags of the same kind right after it are one span, an I- tag that continues
    nothing begins one, and words outside have none.
    """
    assert output.tag_logits is not None
    probabilities = softmax(output.tag_logits)  # (tokens, tags)
    found: list[TagSpan] = []
    kind: str | None = None  # of the span that the next word may continue
    for (begin, end), piece in zip(words.spans, words.first, strict=True):
        if piece is None:
            continue
        row = probabilities[1 + piece]
        best = int(row.argmax())
        tag, probability = tagger.tags[best], float(row[best])
        if not tagger.bio:
            found.append(TagSpan(tag, begin, end, probability))
            continue
        if tag == _OUTSIDE:
            kind = None
            continue
        previous, kind = kind, tag[_PREFIX:]
        if tag.startswith(_INSIDE) and kind == previous:
            found[-1] = found[-1]._replace(end=end)
        else:
            found.append(TagSpan(kind, begin, end, probability))
    return found


def candidates(output: EncoderOutput, number: int, top_k: int, never: Collection[int]) -> list[Scored]:
    """What the mask of that number may hide, likeliest first; ``never`` are ids that stand for no text."""
    assert output.mask_logits is not None
    logits = output.mask_logits[number].astype(np.float64)  # (vocabulary,)
    logits[list(never)] = -np.inf
    return _best(softmax(logits), min(top_k, len(logits) - len(never)))


def embedding(output: EncoderOutput, *, of_cls: bool, normalise: bool) -> Doubles:
    """One vector (d_model,) for the text: the state of [CLS], or the mean over its own tokens; of length 1 if asked."""
    states = output.states
    vector: Doubles = states[0].astype(np.float64) if of_cls else states[1:-1].mean(axis=0, dtype=np.float64)
    length = float(np.linalg.norm(vector))
    return vector / length if normalise and length else vector


def _best(probabilities: Doubles, count: int) -> list[Scored]:
    order = np.argsort(-probabilities, kind="stable")[:count]
    return [Scored(int(number), float(probabilities[number])) for number in order]
