"""How well a language model knows a text: nats per character, whatever the tokenisation, and perplexity per token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from dragoman_model.checkpoint import TrainedModel
from dragoman_model.data import DataError
from dragoman_model.language_model import LanguageModel
from dragoman_model.text_files import DocumentKind, cut_documents, read_texts
from dragoman_model.tokenizer import encode_documents

Ids = Sequence[int] | npt.NDArray[np.int64]
_BATCH_TOKENS = 4096


@dataclass(frozen=True)
class TextScore:
    """A text's negative log-likelihood."""

    nats: float
    tokens: int

    @property
    def perplexity(self) -> float:
        """Per token: comparable only between models of one tokenizer."""
        return math.exp(self.nats / self.tokens)


@dataclass(frozen=True)
class TextEvaluation:
    """What ``dragoman evaluate`` says of a language model on texts."""

    characters: int
    score: TextScore
    stride: int
    """Tokens between the beginnings of two windows."""

    @property
    def nats_per_character(self) -> float:
        """Comparable between models of all tokenizers."""
        return self.score.nats / self.characters


@dataclass(frozen=True)
class _Window:
    """``ids[begin:end]`` of a document, of which the last ``scored`` are counted."""

    ids: npt.NDArray[np.int64]
    scored: int


def score_documents(model: LanguageModel, documents: Sequence[Ids], *, stride: int | None = None) -> TextScore:
    """Sum -log p over all ids of all documents (without bos), every id once, in nats.

    Windows of ``max_length`` ids, each behind a bos, begin ``stride`` ids (default: half a window) after each other,
    and each counts what the one before has not: every id has at least max_length - stride tokens before it, or all
    that its document has. ValueError if the stride is not in [1, max_length].
    """
    length = model.config.max_length
    stride = length // 2 if stride is None else stride
    if not 1 <= stride <= length:
        raise ValueError(f"stride = {stride} must lie in [1, {length}]")
    # Windows of one length share batches: all but those of short documents have the same.
    windows = [window for ids in documents for window in _windows(np.asarray(ids, dtype=np.int64), length, stride)]
    windows.sort(key=lambda window: len(window.ids))
    nats, begin = 0.0, 0
    while begin < len(windows):
        end = begin + 1
        while (
            end < len(windows)
            and len(windows[end].ids) == len(windows[begin].ids)
            and (end - begin + 1) * len(windows[begin].ids) <= _BATCH_TOKENS
        ):
            end += 1
        nats += _score(model, windows[begin:end])
        begin = end
    return TextScore(nats, sum(window.scored for window in windows))


def evaluate_texts(
    trained: TrainedModel[LanguageModel],
    paths: Sequence[Path],
    *,
    last: float = 1.0,
    documents: DocumentKind = "files",
    stride: int | None = None,
) -> TextEvaluation:
    """Score the last share of each file's characters; paragraphs' ends are scored with them, a file's is not.

    DataError if a file cannot be used, or if the share is none of (0, 1].
    """
    if not 0 < last <= 1:
        raise DataError(f"last = {last:g} must lie in (0, 1]")
    parts = [text[int(len(text) * round(1.0 - last, 9)) :] for text in read_texts(paths)]
    texts = [document for part in parts for document in cut_documents(part, documents)]
    ids = encode_documents(trained.tokenizer, texts, ends=documents == "paragraphs")
    stride = trained.model.config.max_length // 2 if stride is None else stride
    return TextEvaluation(sum(map(len, parts)), score_documents(trained.model, ids, stride=stride), stride)


def _windows(ids: npt.NDArray[np.int64], length: int, stride: int) -> list[_Window]:
    if len(ids) == 0:
        return []
    done = min(length, len(ids))
    windows = [_Window(ids[:done], done)]
    while done < len(ids):
        end = min(done + stride, len(ids))
        windows.append(_Window(ids[end - length : end], end - done))
        done = end
    return windows


@torch.no_grad()
def _score(model: LanguageModel, windows: Sequence[_Window]) -> float:
    device = model.embedding.weight.device
    targets = torch.from_numpy(np.stack([window.ids for window in windows])).to(device)  # (windows, time)
    bos = torch.full_like(targets[:, :1], model.config.bos_id)
    logits = model(torch.cat([bos, targets[:, :-1]], dim=1)).float()
    loss = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")  # (windows, time)
    time = targets.shape[1]
    first = torch.tensor([time - window.scored for window in windows], device=device)
    counted = torch.arange(time, device=device) >= first[:, None]
    return float(loss.double()[counted].sum())
