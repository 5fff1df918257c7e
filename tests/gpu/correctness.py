"""Whether what the GPU computes is right: near to PyTorch, and the same alone as in company."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dragoman_model.batching import pad
from dragoman_model.transformer import Transformer
from dragoman_server.device import Device
from tests.gpu.measuring import Findings, Runtime, WrongResultError, begin, require_candidates, texts
from tests.gpu.subjects import Subject, torch_device

LARGEST_DIFFERENCE = 0.2
"""Of a logit from PyTorch's in float32, as for every float16 bundle."""
LEAST_ALIKE = 0.97
"""Share of choices that are PyTorch's, too, along the same tokens; a choice between two that are nearer to one another
than float16 can tell apart is either's."""
_NEAR = 0.02
_ROWS, _STEPS = 16, 20
_ALONE, _SHORT = 16, 16
_COMPANIES = (63, 1, 7, 31)


def parity(subject: Subject, folder: Path, device: Device) -> Iterator[Findings]:
    """Greedy decodes against PyTorch in float32 along the same tokens; WrongResultError where they differ too much."""
    runtime = subject.runtime(folder, device, _ROWS)
    yield {"provider": runtime.provider}
    begins = texts(subject, _ROWS)
    tokens = begin(runtime, subject, begins)
    fed, logits = [tokens], []
    for _ in range(_STEPS):
        output = runtime.step(tokens, with_logits=True)
        assert output.logits is not None
        require_candidates(output.top_ids, output.top_log_probs)
        logits.append(output.logits.copy())
        tokens = output.top_ids[:, 0].tolist()
        fed.append(tokens)
    expected = _expected(subject, begins, np.array(fed[:-1]).T)  # (rows, steps, vocabulary)
    found = np.stack(logits, axis=1)
    difference = np.abs(found - expected).max()
    best = expected.max(-1)
    chosen = np.take_along_axis(expected, found.argmax(-1)[..., None], -1)[..., 0]
    alike = float((best - chosen <= _NEAR).mean())
    yield {
        "largest_logit_difference": float(difference),
        "largest_logit": float(np.abs(expected).max()),
        "alike": alike,
        "same_choices": float((found.argmax(-1) == expected.argmax(-1)).mean()),
    }
    if not np.isfinite(found).all() or not difference <= LARGEST_DIFFERENCE or alike < LEAST_ALIKE:
        raise WrongResultError(
            f"a logit is {difference:.3g} from PyTorch's, at most {LARGEST_DIFFERENCE}; "
            f"{alike:.1%} of the choices are alike, at least {LEAST_ALIKE:.0%}"
        )


def independence(subject: Subject, folder: Path, device: Device) -> Iterator[Findings]:
    """The same texts alone and in company of 1 to 63 others: share with the same tokens, and with the same bits.

    WrongResultError where different texts are continued alike, so that their being the same says nothing.
    """
    runtime = subject.runtime(folder, device, max(_COMPANIES) + 1)
    begins = texts(subject, _ALONE)
    alone = [_decoded(runtime, subject, [text])[0] for text in begins]
    kinds = len({tuple(tokens) for tokens, _ in alone})
    changing = sum(len(set(tokens)) > 1 for tokens, _ in alone)
    yield {"different": kinds, "of": len(alone), "that change": changing}
    if kinds < len(alone) / 2 or not changing:
        raise WrongResultError(f"{len(alone)} texts have {kinds} continuations, of which {changing} change")
    for company in _COMPANIES:
        others = texts(subject, company, seed=5)
        together = [_decoded(runtime, subject, [text, *others])[0] for text in begins]
        same = [
            (one[0] == other[0], np.array_equal(one[1], other[1])) for one, other in zip(alone, together, strict=True)
        ]
        yield {
            str(company): {
                "same_tokens": sum(tokens for tokens, _ in same) / len(same),
                "same_bits": sum(bits for _, bits in same) / len(same),
            }
        }


@torch.no_grad()
def _expected(subject: Subject, begins: Sequence[Sequence[int]], fed: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """PyTorch's logits (rows, steps, vocabulary) after each of the tokens that were fed (rows, steps)."""
    model, kind = subject.model().to(torch_device()), torch_device()
    if isinstance(model, Transformer):
        sources, lengths = pad(begins, subject.config.pad_id), torch.tensor([len(text) for text in begins])
        states = model(sources.to(kind), lengths.to(kind), torch.tensor(fed, device=kind))
        logits: npt.NDArray[np.float32] = model.logits(states).cpu().numpy()
        return logits
    found = []
    for text, row in zip(begins, fed.tolist(), strict=True):
        ids = torch.tensor([[*text[:-1], *row]], device=kind)
        found.append(model.logits(model.states(ids)[0, len(text) - 1 :]).cpu().numpy())
    return np.stack(found)


def _decoded(runtime: Runtime, subject: Subject, begins: Sequence[Sequence[int]]) -> list[tuple[list[int], Any]]:
    """Some greedy tokens of each text and their log-probabilities (steps, top_k)."""
    tokens: Any = begin(runtime, subject, begins)
    ids, log_probs = [], []
    for _ in range(_SHORT):
        output = runtime.step(tokens)
        tokens = output.top_ids[:, 0].copy()
        ids.append(tokens)
        log_probs.append(output.top_log_probs.copy())
    require_candidates(output.top_ids, output.top_log_probs)
    return [(np.stack(ids)[:, row].tolist(), np.stack(log_probs)[:, row]) for row in range(len(begins))]
