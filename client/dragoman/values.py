"""What calls return: frozen values, free of protobuf but for a model's bundle."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from dragoman_protos.v1.bundle_pb2 import Bundle


class FinishReason(StrEnum):
    """Why decoding ended."""

    STOP = "stop"
    """The model ended the sentence."""
    LENGTH = "length"
    """``max_length`` was reached."""
    STOP_SEQUENCE = "stop-sequence"
    """A string of ``stop`` was produced; the text ends before it."""
    UNSPECIFIED = "unspecified"
    """The server gave a reason that this client does not know."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and produced, end-of-sentence included."""

    source_tokens: int
    target_tokens: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the request went through on the server. Times in milliseconds; None where the server did not say."""

    queue_ms: float | None = None
    encode_ms: float | None = None
    steps: int | None = None
    batch_mean: float | None = None
    """Mean number of rows decoded together, over the steps that the request took part in."""
    precision: str | None = None
    lane: int | None = None


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One candidate translation."""

    text: str
    tokens: tuple[str, ...]
    """The pieces of the vocabulary that make up the text."""
    score: float
    """Sum of ``token_log_probs``, natural logarithm."""
    token_log_probs: tuple[float, ...]
    """One per token, and one more for end-of-sentence when the finish reason is STOP."""
    finish_reason: FinishReason
    rank_score: float
    """What hypotheses are ranked by: ``score`` after the length and coverage penalties."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Where a segment of the source stands, and its translation in the best hypothesis: ``text[begin:end]``."""

    source_begin: int
    source_end: int
    target_begin: int
    target_end: int
    score: float
    """Of its best hypothesis; 0 where it was copied."""
    copied: bool
    """It has no letter or digit, and stands in the answer as it is."""


@dataclass(frozen=True, slots=True)
class Translation:
    """An answer: its hypotheses, best first and never empty, and how it was made."""

    hypotheses: tuple[Hypothesis, ...]
    usage: Usage
    receipt: Receipt
    model: str
    model_version: str
    segments: tuple[Segment, ...] = ()
    """In the text's order. None where the server did not say."""

    @property
    def text(self) -> str:
        """The best hypothesis' text."""
        return self.hypotheses[0].text

    @property
    def score(self) -> float:
        """The best hypothesis' score: a sum of natural log-probabilities."""
        return self.hypotheses[0].score

    @property
    def tokens(self) -> tuple[str, ...]:
        """The best hypothesis' tokens."""
        return self.hypotheses[0].tokens

    @property
    def finish_reason(self) -> FinishReason:
        """Why the best hypothesis ended."""
        return self.hypotheses[0].finish_reason

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Chunk:
    """A translation that is being decoded, as far as it has come."""

    final_text: str
    """All that will not change; each chunk's begins with the one's before."""
    provisional_text: str
    """What the best hypothesis adds to it; may change."""
    translation: Translation | None = None
    """In the last chunk: the whole answer, whose text is ``final_text``."""


@dataclass(frozen=True, slots=True)
class Score:
    """How likely a given translation is to the model."""

    score: float
    """Sum of ``token_log_probs``: the natural logarithm of the translation's probability."""
    tokens: tuple[str, ...]
    """The pieces of the vocabulary that make up the translation."""
    token_log_probs: tuple[float, ...]
    """One per token, and one more for end-of-sentence."""
    usage: Usage
    receipt: Receipt
    model: str
    model_version: str


@dataclass(frozen=True, slots=True)
class Model:
    """A model as it is being served."""

    name: str
    version: str
    family: str
    """Such as "encoder-decoder"."""
    tasks: tuple[str, ...]
    """Such as "translate"."""
    languages: tuple[str, ...]
    """BCP 47 tags."""
    precision: str
    """"int8", "fp32" or "fp16"."""
    provider: str
    """onnxruntime's execution provider."""
    lanes: int
    max_rows: int
    """Cache rows per lane."""
    default: bool
    """Whether it answers the requests that name no model."""
    state: str = "ready"
    """"ready", "loading", "unloading" or "failed"; of what is not ready there may be no more than name and version."""
    failure: str = ""
    """Why it could not be loaded; one reason a line."""


@dataclass(frozen=True, slots=True)
class ModelDetails(Model):
    """A served model and the bundle that it was loaded from: limits, languages, provenance, certificate."""

    bundle: Bundle = field(kw_only=True, hash=False)
    """The message of which bundle.json is the JSON form."""
