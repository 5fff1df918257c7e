"""What OpenAI's clients send to /v1/completions and /v1/embeddings, and what they are answered.

A field that is missing here is refused by its name: nothing that would change an answer is passed over in silence. What
OpenAI has and we have not is declared as null alone, so that clients that send every field can.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dragoman_server.errors import InvalidArgument, Violation
from dragoman_server.service.texts import shortened
from dragoman_server.web.json_messages import Json

_MOST_FAULTS = 32

ModelName = Annotated[str, Field(min_length=1, description="A model's id, as GET /v1/models lists it.")]
Penalty = Annotated[float, Field(ge=-2, le=2)]
User = Annotated[str, Field(description="Not used.")]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class StreamOptions(_Asked):
    """How a stream ends."""

    include_usage: bool = Field(default=False, description="The last chunk but [DONE] has the usage, and no choices.")


class CompletionRequest(_Asked):
    """POST /v1/completions. Each choice is a request of its own to the engine, and counts as one."""

    model: ModelName
    prompt: Annotated[str, Field()] | Annotated[list[str], Field(min_length=1, max_length=64)] = Field(
        description="A text, or several; tokens are not taken."
    )
    max_tokens: Annotated[int, Field(ge=1, le=65_536)] | None = Field(default=None, description="16 where not given.")
    temperature: Annotated[float, Field(ge=0, le=10)] | None = Field(
        default=None, description="1 where not given; 0: always the likeliest token."
    )
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=16)] | None = Field(default=None, description="Choices for each prompt.")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: Annotated[str, Field(min_length=1)] | Annotated[list[str], Field(max_length=16)] | None = None
    seed: Annotated[int, Field(ge=0, lt=1 << 64)] | None = Field(
        default=None, description="Choice k of each prompt draws with seed + k, counted from 0."
    )
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logprobs: Annotated[int, Field(ge=0, le=0)] | None = Field(
        default=None, description="0: of each token that was chosen. Not of others, and not in a stream."
    )
    echo: bool | None = Field(default=None, description="The text begins with the prompt. Not with logprobs.")
    user: User | None = None
    best_of: None = Field(default=None, description="Not supported.")
    logit_bias: None = Field(default=None, description="Not supported.")
    suffix: None = Field(default=None, description="Not supported.")

    @model_validator(mode="after")
    def _fields_go_together(self) -> CompletionRequest:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options: only with stream = true")
        if self.logprobs is not None and (self.stream or self.echo):
            raise ValueError("logprobs: not with stream or echo")
        return self


class EmbeddingRequest(_Asked):
    """POST /v1/embeddings."""

    model: ModelName
    input: Annotated[str, Field()] | Annotated[list[str], Field(min_length=1, max_length=256)] = Field(
        description="A text, or several; tokens are not taken."
    )
    encoding_format: Literal["float", "base64"] | None = Field(
        default=None, description="float where not given; base64: of 32-bit floats, little-endian."
    )
    user: User | None = None
    dimensions: None = Field(default=None, description="Not supported: a model's vectors have one length.")


class TokenLogProbs(BaseModel):
    """Of the tokens that were chosen."""

    tokens: list[str] = Field(description="The vocabulary's entries.")
    token_logprobs: list[float]
    top_logprobs: None = None
    text_offset: None = None


class Choice(BaseModel):
    """One text, or in a stream a piece of one."""

    text: str
    index: int = Field(description="Prompt after prompt, n for each.")
    logprobs: TokenLogProbs | None = None
    finish_reason: Literal["stop", "length"] | None


class CompletionUsage(BaseModel):
    """In tokens; a prompt counts once, however many choices it has."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(BaseModel):
    """The answer of /v1/completions, or one chunk of it."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[Choice]
    usage: CompletionUsage | None = None


class OpenAIEmbedding(BaseModel):
    """One vector."""

    object: Literal["embedding"] = "embedding"
    embedding: list[float] | str
    index: int


class EmbeddingUsage(BaseModel):
    """In tokens."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    """The answer of /v1/embeddings."""

    object: Literal["list"] = "list"
    data: list[OpenAIEmbedding]
    model: str
    usage: EmbeddingUsage


AskedT = TypeVar("AskedT", bound=_Asked)


def read_asked(given: Json, kind: type[AskedT]) -> AskedT:
    """The request that the body holds; raises InvalidArgument with every fault."""
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        faults: dict[str, Violation] = {}
        for fault in error.errors(include_url=False, include_context=False):
            violation = _violation(fault["loc"], fault["type"], fault["msg"], fault["input"], kind)
            faults.setdefault(violation.field, violation)  # a union has a fault for each of its members
        raise InvalidArgument(list(faults.values())[:_MOST_FAULTS]) from None


def _violation(
    where: tuple[int | str, ...], fault: str, message: str, value: object, kind: type[BaseModel]
) -> Violation:
    if not where:  # of _fields_go_together, whose message begins with the field
        field, _, limit = message.removeprefix("Value error, ").partition(": ")
        return Violation(field, "given", limit)
    name = str(where[0])
    if fault == "extra_forbidden":
        known = kind if len(where) == 1 else StreamOptions
        path = ".".join(map(str, where))
        shown = path if path.isascii() and path.isprintable() and len(path) <= 80 else shortened(path)
        return Violation(shown, "unknown", f"one of {', '.join(known.model_fields)}")
    if fault == "none_required":
        return Violation(name, "given", "not supported here")
    shown = shortened(value) if isinstance(value, str) else shortened(str(value)).strip("'")
    return Violation(name, shown, _limits(name, message, kind))


def _limits(name: str, message: str, kind: type[BaseModel]) -> str:
    """What is allowed, and what the field's description says."""
    description = kind.model_fields[name].description
    limit = message.removeprefix("Input should be ")
    return limit if description is None else f"{limit} ({description.rstrip('.')})"
