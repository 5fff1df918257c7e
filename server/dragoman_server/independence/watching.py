"""Whether a request that is told of its progress is told anything that does not come true."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman_server.request import Completion, Progress


class Watch:
    """A request's ``progress``: called by the lane until the request ends, read by the caller afterwards."""

    def __init__(self) -> None:
        self._final: list[int] = []
        self._told = False
        self._kept = True

    def __call__(self, progress: Progress) -> None:
        """What was final stays, and more may be added."""
        now = list(progress.final_ids)
        self._kept &= _begins(now, self._final)
        self._told, self._final = True, now

    def kept(self, completion: Completion) -> bool | None:
        """Whether nothing final was taken back, and the answer begins with it; None where nothing was told."""
        return self._kept and _begins(completion.best.token_ids, self._final) if self._told else None


def _begins(ids: Sequence[int], prefix: Sequence[int]) -> bool:
    return list(ids[: len(prefix)]) == list(prefix)
