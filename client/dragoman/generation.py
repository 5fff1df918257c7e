"""Continuing a prompt: ``generate`` of both clients, and what it gives."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Unpack

from dragoman import wire
from dragoman.async_caller import AsyncCaller
from dragoman.caller import Caller
from dragoman.decoding import GenerationOptions
from dragoman.errors import InternalError, InvalidArgument
from dragoman.faults import choice_faults, option_faults, priority_faults, string_faults
from dragoman.values import FinishReason, Hypothesis, Receipt, Usage
from dragoman_protos.v1 import inference_pb2

ContextOverflow = Literal["refuse", "slide"]
"""What becomes of text that does not fit the model's window: "refuse" is an error, "slide" leaves out the oldest."""

_OVERFLOWS = {
    "refuse": inference_pb2.CONTEXT_OVERFLOW_REFUSE,
    "slide": inference_pb2.CONTEXT_OVERFLOW_SLIDE,
}


@dataclass(frozen=True, slots=True)
class GeneratedText:
    """An answer: its hypotheses, best first and never empty, without the prompt, and how it was made."""

    hypotheses: tuple[Hypothesis, ...]
    usage: Usage
    receipt: Receipt
    model: str
    model_version: str
    discarded_tokens: int
    """Tokens of the prompt, its oldest, that did not fit the window and were not read."""

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
class GeneratedChunk:
    """A continuation that is being decoded, as far as it has come."""

    text: str
    """What has become final since the last chunk: joined together, these are the answer's text."""
    final_text: str
    """All that will not change; each chunk's begins with the one's before."""
    provisional_text: str
    """What the best hypothesis adds to it; may change."""
    answer: GeneratedText | None = None
    """In the last chunk: the whole answer, whose text is ``final_text``."""

    def __str__(self) -> str:
        return self.text


class Generation(Caller):
    """The blocking client's part that generates."""

    def generate(
        self,
        prompt: str = "",
        *,
        model: str | None = None,
        max_new_tokens: int | None = None,
        context_overflow: ContextOverflow | None = None,
        priority: int | None = None,
        timeout: float | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Generator[GeneratedChunk, None, None]:
        """Continue ``prompt``, as it is decoded; the last chunk holds the answer. Walking away cancels the call.

        ``model`` None stands for the server's default if it generates, else for its first that does.
        ``max_new_tokens`` is by default what is left of the model's window; ``context_overflow`` says what becomes of
        what does not fit it, "refuse" by default. ``options`` is every keyword of ``GenerationOptions``, such as
        ``temperature=0.8``. The call is tried again as any is until its first chunk has come.
        """
        request = generate_request(prompt, model, max_new_tokens, context_overflow, priority, options)
        return self._stream(self._inference.Generate, request, timeout, GenerationReader)


class AsyncGeneration(AsyncCaller):
    """The asyncio client's part that generates."""

    def generate(
        self,
        prompt: str = "",
        *,
        model: str | None = None,
        max_new_tokens: int | None = None,
        context_overflow: ContextOverflow | None = None,
        priority: int | None = None,
        timeout: float | None = None,
        **options: Unpack[GenerationOptions],
    ) -> AsyncGenerator[GeneratedChunk, None]:
        """As ``Client.generate``."""
        request = generate_request(prompt, model, max_new_tokens, context_overflow, priority, options)
        return self._stream(self._inference.Generate, request, timeout, GenerationReader)


def generate_request(  # noqa: PLR0917  (as its callers have them)
    prompt: str,
    model: str | None,
    max_new_tokens: int | None,
    context_overflow: str | None,
    priority: int | None,
    options: Mapping[str, Any],
) -> inference_pb2.GenerateRequest:
    """The message for one prompt; raises TypeError and InvalidArgument as ``wire.translate_request`` does."""
    given = wire.given_options(options, GenerationOptions)
    if max_new_tokens is not None:
        given["max_length"] = max_new_tokens
    faults = [
        *string_faults("prompt", prompt),
        *string_faults("model", model or ""),
        *choice_faults("context_overflow", context_overflow, _OVERFLOWS),
        *priority_faults(priority),
        *(fault for name, value in given.items() for fault in option_faults(name, value)),
    ]
    if faults:
        raise InvalidArgument(faults)
    return inference_pb2.GenerateRequest(
        prompt=prompt,
        model=model or "",
        options=wire.options_message(given),
        context_overflow=_OVERFLOWS[context_overflow or "refuse"],
        priority=priority or 0,
    )


class GenerationReader:
    """A Generate call's messages made into chunks; the last is complete when the call has ended."""

    def __init__(self) -> None:
        self.begun = False
        """Whether a message has come."""
        self._text = ""
        self._delta = ""
        self._response: inference_pb2.GenerateResponse | None = None

    def read(self, message: inference_pb2.GenerateChunk) -> GeneratedChunk | None:
        """The chunk, or None for the last, which waits for ``last``."""
        self.begun = True
        self._text += message.final_text_delta
        if message.HasField("response"):
            self._delta, self._response = message.final_text_delta, message.response
            return None
        return GeneratedChunk(message.final_text_delta, self._text, message.provisional_text)

    def last(self, trailing: wire.Metadata) -> GeneratedChunk:
        """The last chunk; raises InternalError where the stream has ended without."""
        response = self._response
        if response is None or not response.hypotheses:
            raise InternalError("the stream ended without an answer")
        answer = GeneratedText(
            hypotheses=tuple(wire.hypothesis(h) for h in response.hypotheses),
            usage=wire.usage(response.usage),
            receipt=wire.receipt(trailing),
            model=response.model,
            model_version=response.model_version,
            discarded_tokens=response.discarded_tokens,
        )
        return GeneratedChunk(self._delta, answer.text, "", answer)
