"""The serving engine over a language model's graph, run in this process: what is measured is what is served."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dragoman_export.serving import UNBOUNDED, Advance, ServedEngine
from dragoman_model.language_model_evaluation import Window
from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.machine import usable_cores
from dragoman_server.prompt_engine import PromptEngine
from dragoman_server.prompt_runtime import OnnxPromptRuntime


def prompt_runtime(decoder: Path, manifest: Bundle, max_rows: int) -> OnnxPromptRuntime:
    """A lane's runtime."""
    return OnnxPromptRuntime(decoder, dimensions=manifest.dimensions, limits=manifest.limits, max_rows=max_rows)


class ServedLanguageModel(ServedEngine):
    """A lane for every usable core over one graph; ``manifest`` gives dimensions, limits and special ids."""

    def __init__(self, decoder: Path, manifest: Bundle, *, lanes: int | None = None, max_rows: int = 64) -> None:
        runtimes = [prompt_runtime(decoder, manifest, max_rows) for _ in range(lanes or usable_cores())]
        engine = PromptEngine(
            runtimes, eos=manifest.special_ids.eos, max_waiting=UNBOUNDED, max_waiting_tokens=UNBOUNDED
        )
        super().__init__(engine, runtimes[0].provider)
        self._bos = manifest.special_ids.bos

    def generate(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, advance: Advance = lambda count: None
    ) -> list[list[int]]:
        """Greedy continuations of prompts (bos first), end-of-text left out; ServingError where the engine fails."""
        options = DecodingOptions(max_length=max_new_tokens)
        return [answer.token_ids for answer in self.answers([(prompt, options) for prompt in prompts], advance)]

    def nats(self, windows: Sequence[Window], advance: Advance = lambda count: None) -> float:
        """Sum -log p over the scored ids of all windows, each behind a bos; ServingError where the engine fails."""
        asked = []
        for window in windows:
            ids = window.ids.tolist()
            read, scored = ids[: len(ids) - window.scored], tuple(ids[len(ids) - window.scored :])
            options = DecodingOptions(max_length=len(scored), prefix=scored, forced=True)
            asked.append(([self._bos, *read], options))
        return -sum(sum(answer.log_probs) for answer in self.answers(asked, advance))
