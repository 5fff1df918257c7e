"""A request to generate without faults: what the engine is given at one time, and how a text that slides goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dragoman_server.decoding.hypothesis import Answer, FinishReason
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.generation_host import GenerationHost
from dragoman_server.request import Completion

REMEMBERED = 4096
"""Generated tokens that penalties and restrictions look back on after the window has slid."""


@dataclass(frozen=True, slots=True)
class Generation:
    """What to hand to which engine."""

    host: GenerationHost
    prompt_ids: Sequence[int]
    """As it is read: begin-of-text first."""
    options: DecodingOptions
    """Of the whole text; only one that slides has a ``max_length`` beyond what is left of the window."""
    priority: int = 0
    discarded: int = 0
    """Tokens of the prompt that are not read."""

    def part(self, produced: Sequence[int]) -> tuple[Sequence[int], DecodingOptions]:
        """Prompt and options of the engine's next request, where these tokens have been produced so far.

        Whenever the window is full, its last half is the prompt of what follows.
        """
        window, options, done = self.host.window, self.options, len(produced)
        begin, *prompt = self.prompt_ids
        if done:
            prompt = [*prompt, *produced][-kept(window) :]
        max_length = min(options.max_length - done, window - len(prompt))
        if not done:
            return self.prompt_ids, replace(options, max_length=max_length)
        following = replace(
            options,
            max_length=max_length,
            min_length=max(0, options.min_length - done),
            prefix=(),
            sampling=options.sampling and replace(options.sampling, first=done),
            stop=options.stop and options.stop.after(produced),
            earlier=tuple(produced[-REMEMBERED:]) if options.penalises or options.restricts else (),
        )
        return [begin, *prompt], following

    def goes_on(self, completions: Sequence[Completion]) -> bool:
        """Whether there is more to come after these parts."""
        produced = sum(len(completion.best.token_ids) for completion in completions)
        return completions[-1].best.finish_reason is FinishReason.LENGTH and produced < self.options.max_length

    def answers(self, completions: Sequence[Completion]) -> list[Answer]:
        """What the parts come to, best first."""
        if len(completions) == 1:
            return completions[0].answers
        token_ids = [token_id for completion in completions for token_id in completion.best.token_ids]
        log_probs = [log_prob for completion in completions for log_prob in completion.best.log_probs]
        rank = self.options.length_penalty.rank(sum(log_probs), len(log_probs))
        reason, stop = completions[-1].best.finish_reason, self.options.stop
        text = stop.cut(token_ids) if stop and reason is FinishReason.STOP_SEQUENCE else None
        return [Answer(token_ids, log_probs, reason, rank, text)]

    def text(self, answer: Answer) -> str:
        """Of one of the answers."""
        return self.host.codec.decode(answer.token_ids) if answer.text is None else answer.text


def kept(window: int) -> int:
    """Tokens that are still read when a window of so many is full: its last half."""
    return window - max(1, window // 2)
