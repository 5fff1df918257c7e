"""Language modelling: windows of running text, each token predicted from those before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from dragoman_model.batching import Indices
from dragoman_model.config import DecoderConfig
from dragoman_model.data import DataError
from dragoman_model.language_model import LanguageModel
from dragoman_model.language_model_evaluation import score_documents
from dragoman_model.language_model_recipe import LanguageModelRecipe
from dragoman_model.loss import smoothed_cross_entropy
from dragoman_model.task import Start, Task
from dragoman_model.text_files import read_texts, split_texts
from dragoman_model.tokenizer import BOS, encode_documents, token_id, train_text_tokenizer


@dataclass(frozen=True)
class WindowBatch:
    """ids (batch, time): bos and the window without its last token; targets (batch, time): the window."""

    ids: Tensor
    targets: Tensor

    @property
    def tokens(self) -> int:
        """Every target counts."""
        return self.targets.numel()

    def to(self, device: torch.device) -> WindowBatch:
        """The same on another device."""
        return WindowBatch(self.ids.to(device), self.targets.to(device))


class LanguageModelObjective(nn.Module):
    """Model and loss in one forward pass."""

    def __init__(self, model: LanguageModel, smoothing: float) -> None:
        super().__init__()
        self.model = model
        self.smoothing = smoothing

    def forward(self, batch: WindowBatch) -> tuple[Tensor, Tensor]:
        """Summed smoothed loss and summed log-likelihood of the targets, in nats."""
        states = self.model.states(batch.ids).flatten(0, 1)
        return smoothed_cross_entropy(
            states, self.model.embedding.weight, batch.targets.flatten(), smoothing=self.smoothing
        )


class LanguageModelTask(Task):
    """A decoder-only model that learns running text; an entry of ``order`` holds where the windows of a batch begin."""

    config: DecoderConfig
    model: LanguageModel

    def __init__(self, recipe: LanguageModelRecipe, start: Start) -> None:
        data = recipe.data
        splits = split_texts(
            read_texts([data.root / path for path in data.files]),
            train_share=data.train_share,
            valid_share=data.valid_share,
            documents=data.documents,
        )
        tokenizer = start.tokenizer or train_text_tokenizer(splits.train, recipe.tokenizer.vocabulary)
        super().__init__(recipe, start, tokenizer)
        self._language = recipe
        self._window = recipe.training.max_tokens
        self._stream = make_stream(tokenizer, splits.train)
        # Paragraphs end where the text says so; a file's part ends where it was cut.
        ends = data.documents == "paragraphs"
        self._valid = encode_documents(tokenizer, splits.valid, ends=ends)
        self._valid_characters = splits.valid_characters
        for name, tokens in (("train", len(self._stream)), ("valid", sum(map(len, self._valid)))):
            if tokens < self._window:
                raise DataError(f"the text is too short: {name} has {tokens} tokens, a window {self._window}")
        start.say(
            f"{len(self._stream):,} tokens of {sum(map(len, splits.train)):,} characters to train on, "
            f"{sum(map(len, self._valid)):,} of {self._valid_characters:,} to validate on"
        )

    @property
    def examples(self) -> int:
        """Windows in an epoch."""
        return len(self._stream) // self._window

    def order(self, epoch: int) -> Sequence[Indices]:
        """Where the windows begin that make up each batch."""
        training = self.recipe.training
        rows = max(1, training.batch_tokens // self._window)
        rng = np.random.default_rng([training.seed, epoch])
        spare = len(self._stream) - self._window
        random = self._language.data.windows == "random"
        offset = int(rng.integers(min(self._window, spare + 1))) if random else 0
        begins = np.arange(offset, spare + 1, self._window)
        if random:
            rng.shuffle(begins)
        return [begins[i : i + rows] for i in range(0, len(begins), rows)]

    def batch(self, indices: Indices) -> WindowBatch:
        """The windows that begin there."""
        targets = np.stack([self._stream[begin : begin + self._window] for begin in indices])
        ids = np.concatenate([np.full((len(targets), 1), self.config.bos_id), targets[:, :-1]], axis=1)
        return WindowBatch(torch.from_numpy(ids), torch.from_numpy(targets))

    def validation(self, rank: int, size: int) -> Iterator[WindowBatch]:
        """The validation text in windows, one after the other; what does not fill the last one is left out."""
        stream = np.concatenate(self._valid)
        rows = max(1, self.recipe.training.batch_tokens // self._window)
        windows = stream[: len(stream) // self._window * self._window].reshape(-1, self._window)
        for begin in range(rank * rows, len(windows), size * rows):
            targets = windows[begin : begin + rows]
            ids = np.concatenate([np.full((len(targets), 1), self.config.bos_id), targets[:, :-1]], axis=1)
            yield WindowBatch(torch.from_numpy(ids), torch.from_numpy(targets))

    def objective(self) -> nn.Module:
        """Next-token prediction."""
        return LanguageModelObjective(self.model, self.recipe.training.label_smoothing)

    def metrics(self) -> dict[str, float]:
        """Nats per character of the validation text, each token with at least half a window before it."""
        score = score_documents(self.model, self._valid)
        return {"nats_per_character": score.nats / self._valid_characters}


def make_stream(tokenizer: Tokenizer, texts: Sequence[str]) -> npt.NDArray[np.int64]:
    """All documents one after the other, each ended by eos, the next begun by bos."""
    bos = np.array([token_id(tokenizer, BOS)], dtype=np.int64)
    parts: list[npt.NDArray[np.int64]] = []
    for document in encode_documents(tokenizer, texts, ends=True):
        parts += [bos, document]
    return np.concatenate(parts[1:])
