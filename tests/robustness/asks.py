"""What the traffic asks for: a fixed pool of requests, each of which has one right answer.

Every sampled one has a seed, so that its answer depends on nothing but itself: it is asked alone once, and compared
with that for the rest of the campaign.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dragoman import understanding_wire, wire
from dragoman.decoding import Decoding, GenerationOptions
from dragoman.generation import GeneratedText, generate_request
from dragoman.understanding_values import Classification, Embeddings, FilledMasks
from dragoman.values import Receipt, Score, Translation
from dragoman_protos.v1 import inference_pb2
from dragoman_server.independence.sentences import own_sentences

Value = Translation | GeneratedText | Classification | FilledMasks | Embeddings | Score


@dataclass(frozen=True)
class Translate:
    """A text to translate; sent alone, as a stream or as an item of a bulk call, it has the same answer."""

    key: str
    text: str
    decoding: Decoding
    priority: int = 0
    model: str = "deu-eng"

    def message(self) -> inference_pb2.TranslateRequest:
        return wire.translate_request(
            self.text, target="de", source=None, model=self.model, decoding=self.decoding, priority=self.priority
        )


@dataclass(frozen=True)
class Generate:
    """A prompt to continue."""

    key: str
    prompt: str
    max_new_tokens: int
    options: GenerationOptions
    model: str = "shakespeare"

    def message(self) -> inference_pb2.GenerateRequest:
        return generate_request(self.prompt, self.model, self.max_new_tokens, None, None, self.options)


@dataclass(frozen=True)
class Classify:
    """A text to label."""

    key: str
    text: str
    model: str = "intents"

    def message(self) -> inference_pb2.ClassifyRequest:
        return understanding_wire.classify_request(
            self.text, text_pair=None, model=self.model, top_k=None, min_probability=None, priority=None
        )


@dataclass(frozen=True)
class FillMask:
    """A text with a hidden word."""

    key: str
    text: str
    model: str = "intents"

    def message(self) -> inference_pb2.FillMaskRequest:
        return understanding_wire.fill_mask_request(self.text, model=self.model, top_k=None, priority=None)


@dataclass(frozen=True)
class Embed:
    """Texts to turn into vectors."""

    key: str
    texts: tuple[str, ...]
    model: str = "intents"

    def message(self) -> inference_pb2.EmbedRequest:
        return understanding_wire.embed_request(
            self.texts, model=self.model, pooling=None, normalise=None, priority=None
        )


@dataclass(frozen=True)
class ScoreOf:
    """A text and a translation of it, to be scored."""

    key: str
    text: str
    translation: str
    model: str = "deu-eng"

    def message(self) -> inference_pb2.ScoreRequest:
        return wire.score_request(
            self.text, self.translation, target_language="de", source_language=None, model=self.model, priority=None
        )


Ask = Translate | Generate | Classify | FillMask | Embed | ScoreOf


@dataclass(frozen=True)
class Answer:
    """What was answered, as far as it is compared: a hash over all of it, scores to the bit, and its text."""

    fingerprint: str
    text: str


def answer_of(value: Value) -> Answer:
    """The answer without what may differ from one time to the next: its receipt and the version that gave it."""
    bare = replace(value, receipt=Receipt(), model_version="", model="")
    text = value.text if isinstance(value, Translation | GeneratedText) else ""
    return Answer(hashlib.sha256(repr(bare).encode()).hexdigest()[:16], text)


_WIDE: Sequence[Decoding] = (
    {"beam_size": 2},
    {"beam_size": 4, "num_hypotheses": 2, "length_penalty": 0.6},
    {"beam_size": 6, "num_hypotheses": 6},
    {"temperature": 0.8, "top_p": 0.9, "seed": 7},
    {"temperature": 1.1, "top_k": 20, "num_hypotheses": 3, "seed": 11},
    {"repetition_penalty": 1.2, "no_repeat_ngram_size": 3},
    {"beam_size": 3, "coverage_penalty": 0.4},
    {"banned_words": ("nicht", "und")},
)
_PROMPTS = ("ROMEO:", "What light is this", "My lord, I", "KING HENRY:\nNow", "O, speak again", "First Citizen:")
_INTENTS = (
    "book me a table for two",
    "what is the weather in Rome",
    "set an alarm for seven",
    "how much money is on my account",
    "tell me a joke about cats",
    "who painted this",
    "transfer ten euros to my brother",
    "play some music by the sea",
)
SHORT, WIDE, LONG, TEXTS, PROMPTS, LONG_PROMPTS, READINGS = (
    "short", "wide", "long", "texts", "prompts", "long-prompts", "readings",
)  # fmt: skip


def pool() -> dict[str, list[Ask]]:
    """The requests by kind; the same in every campaign."""
    sentences = [sentence.text for sentence in own_sentences(96, seed=5, languages=["en"])]
    by_length = sorted(sentences, key=len)
    short, middle, long = by_length[:40], by_length[40:64], by_length[-8:]
    reading = " ".join(short[:12])  # about 200 tokens, which are prefilled in several chunks
    generations: Sequence[GenerationOptions] = ({}, {"temperature": 0.9, "top_p": 0.95, "seed": 3}, {"beam_size": 3})
    return {
        SHORT: [Translate(f"short-{n}", text, {}) for n, text in enumerate(short)],
        WIDE: [Translate(f"wide-{n}", text, _WIDE[n % len(_WIDE)], priority=n % 10) for n, text in enumerate(middle)],
        LONG: [Translate(f"long-{n}", text, {}) for n, text in enumerate(long)],
        TEXTS: [Translate(f"text-{n}", " ".join(short[4 * n : 4 * n + 4]), {}) for n in range(6)],
        PROMPTS: [
            *(
                Generate(f"prompt-{n}-{m}", prompt, 24, options)
                for n, prompt in enumerate(_PROMPTS)
                for m, options in enumerate(generations)
            ),
            *(Generate(f"read-{n}", reading[20 * n :], 16, options) for n, options in enumerate(generations)),
        ],
        LONG_PROMPTS: [
            Generate(f"long-prompt-{n}", prompt, 160, {"temperature": 0.9, "seed": n, "min_length": 150})
            for n, prompt in enumerate(_PROMPTS)
        ],
        READINGS: [
            *(Classify(f"classify-{n}", text) for n, text in enumerate(_INTENTS)),
            *(FillMask(f"mask-{n}", text.replace(" me ", " [MASK] ") + " [MASK]") for n, text in enumerate(_INTENTS)),
            *(Embed(f"embed-{n}", (text, _INTENTS[n - 1])) for n, text in enumerate(_INTENTS[:4])),
            *(ScoreOf(f"score-{n}", text, "Das ist ein Haus.") for n, text in enumerate(short[:4])),
        ],
    }
