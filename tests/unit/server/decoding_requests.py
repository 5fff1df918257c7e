"""Requests of every kind of decoding, for tests that mix them."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from dragoman_server.decoding.options import DecodingOptions, SamplingOptions
from dragoman_server.decoding.ranking import LengthPenalty
from dragoman_server.decoding.stopping import StopSequences
from tests.unit.server.toy_model import EOS


def letters(token_ids: Sequence[int]) -> str:
    """A codec's decode for the toy model: one letter for each token."""
    return "".join(chr(ord("a") + token) for token in token_ids)


_tokens = st.integers(4, 23)
_samplings = st.builds(
    SamplingOptions,
    seed=st.integers(0, 2**64 - 1),
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
    top_k=st.sampled_from([0, 4, 10]),
    top_p=st.sampled_from([1.0, 0.7]),
    min_p=st.sampled_from([0.0, 0.05]),
    typical_p=st.sampled_from([1.0, 0.8]),
)


@st.composite
def decoding_options(draw: st.DrawFn, widest: int = 5) -> DecodingOptions:
    """Greedy, beam search, samples, alternatives or a forced target, with and without restrictions."""
    max_length = draw(st.integers(1, 9))
    kind = draw(st.sampled_from(["greedy", "beam", "samples", "alternatives", "forced"]))
    if kind == "forced":
        return draw(forced_options())
    beam_size = draw(st.integers(2, widest)) if kind == "beam" else 1
    samples = draw(st.integers(1, widest)) if kind == "samples" else 1
    plain = draw(st.booleans())
    return DecodingOptions(
        max_length=max_length,
        beam_size=beam_size,
        num_hypotheses=draw(st.integers(1, beam_size)) if kind == "beam" else samples,
        patience=draw(st.sampled_from([0.3, 1.0, 2.0])),
        early_stopping=draw(st.booleans()),
        length_penalty=LengthPenalty(draw(st.sampled_from([0.0, 0.6, 1.0, 2.0])), wu=draw(st.booleans())),
        sampling=draw(_samplings) if kind == "samples" else None,
        alternatives=draw(st.integers(2, widest)) if kind == "alternatives" else 0,
        min_length=0 if plain else draw(st.integers(0, max_length - 1)),
        repetition_penalty=1 if plain else draw(st.sampled_from([1.0, 0.5, 1.5])),
        presence_penalty=0 if plain else draw(st.sampled_from([0.0, 1.5])),
        frequency_penalty=0 if plain else draw(st.sampled_from([0.0, -1.0, 1.0])),
        no_repeat_ngram_size=0 if plain else draw(st.integers(0, 3)),
        allowed=None if plain else draw(st.none() | st.lists(_tokens, min_size=1, unique=True).map(tuple)),
        banned=() if plain else tuple(draw(st.lists(st.tuples(_tokens), max_size=3))),
        prefix=() if plain else tuple(draw(st.lists(_tokens, max_size=max_length - 1))),
        coverage_penalty=draw(st.sampled_from([0.0, 0.0, 0.3])),
        with_attention=draw(st.booleans()),
        stop=None if plain or draw(st.booleans()) else StopSequences(("e", "lk", "hij"), letters),
    )


@st.composite
def forced_options(draw: st.DrawFn) -> DecodingOptions:
    """A target to be scored; restrictions make no difference to it."""
    prefix = (*draw(st.lists(_tokens, max_size=8)), EOS)
    return DecodingOptions(
        max_length=len(prefix),
        prefix=prefix,
        forced=True,
        length_penalty=LengthPenalty(draw(st.sampled_from([0.0, 1.0]))),
        repetition_penalty=draw(st.sampled_from([1.0, 1.5])),
        banned=draw(st.sampled_from([(), ((5,), (6,))])),
        coverage_penalty=draw(st.sampled_from([0.0, 0.3])),
        with_attention=draw(st.booleans()),
    )
