"""Where attention came from: a recurrent encoder-decoder, without attention and with it.

Without (``architecture = "gru"``): all of the source that the decoder gets is the encoder's final states (Cho et al.
2014, arXiv:1406.1078; Sutskever et al. 2014, arXiv:1409.3215), the same vector in every step. With it
(``"gru-attention"``): each step looks at all of the encoder's states by additive attention, and the decoder's state
before the step asks (Bahdanau et al. 2015, arXiv:1409.0473). Nothing else differs, and training, tokenizer and
evaluation are those of the ``Transformer``. These models are for comparison: they are not exported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dragoman_model.attention import AdditiveSimilarity, attend, padding_mask
from dragoman_model.batching import pad
from dragoman_model.config import RecurrentConfig
from dragoman_model.layers import Dropout
from dragoman_model.token_model import TokenModel


@dataclass(frozen=True)
class EncodedSource:
    """What the decoder may read of a source."""

    states: Tensor
    """(batch, source, 2 d_encoder): both directions at every token."""
    summary: Tensor
    """(batch, 2 d_encoder): the final state of each direction."""
    keys: Tensor | None
    """(batch, source, d_attention): the states as the similarity compares them, or None without attention."""
    mask: Tensor | None
    """(batch, 1, source), True for tokens, or None when nothing is padded."""


@dataclass(frozen=True)
class RecurrentStep:
    """One step of the decoder, for a batch."""

    state: Tensor
    """(batch, d_decoder)."""
    context: Tensor
    """(batch, 2 d_encoder): what the step was given of the source."""
    weights: Tensor | None
    """(batch, source), each row summing to one, or None without attention."""


class RecurrentTranslator(TokenModel):
    """A GRU in each direction reads the source, another writes the target; one embedding for all, as in Transformer."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        self.config = config
        d_source = 2 * config.d_encoder
        self.dropout = Dropout(config.dropout, shared_over_time=config.dropout_shared_over_time)
        self.forwards = nn.GRU(config.d_model, config.d_encoder, batch_first=True)
        self.backwards = nn.GRU(config.d_model, config.d_encoder, batch_first=True)
        self.start = nn.Linear(d_source, config.d_decoder)
        self.cell = nn.GRUCell(config.d_model + d_source, config.d_decoder)
        self.similarity = AdditiveSimilarity(config.d_decoder, d_source, config.d_attention) if config.attends else None
        self.readout = nn.Linear(config.d_decoder + d_source + config.d_model, config.d_model)
        nn.init.normal_(self.embedding.weight, std=1.0 / self.embedding_scale)

    def read(self, ids: Tensor) -> Tensor:
        """(batch, time) -> (batch, time, d_model): scaled embeddings; a GRU needs no positions to know the order."""
        dropped: Tensor = self.embedding_dropout(self.embedding(ids) * self.embedding_scale)
        return dropped

    def encode(self, source: Tensor, source_lengths: Tensor | None) -> EncodedSource:
        """Read ids (batch, source) in both directions; lengths None: no row is padded."""
        batch, time = source.shape
        lengths = torch.full((batch,), time, device=source.device) if source_lengths is None else source_lengths
        # A GRU over the row turned around within its length never sees padding before the last of the tokens.
        place = torch.arange(time, device=source.device)
        turned = torch.where(place < lengths[:, None], lengths[:, None] - 1 - place, place)[:, :, None]
        embedded = self.read(source)
        there = self.forwards(embedded)[0]
        back = self.backwards(embedded.take_along_dim(turned, dim=1))[0]
        last = (lengths - 1)[:, None, None]
        summary = torch.cat([there.take_along_dim(last, dim=1), back.take_along_dim(last, dim=1)], dim=-1)[:, 0]
        states = self.dropout(torch.cat([there, back.take_along_dim(turned, dim=1)], dim=-1))
        keys = None if self.similarity is None else self.similarity.project_keys(states)
        mask = None if source_lengths is None else padding_mask(source_lengths, time)[:, 0]
        return EncodedSource(states, summary, keys, mask)

    def first_state(self, source: EncodedSource) -> Tensor:
        """(batch, d_decoder): where the decoder begins."""
        return torch.tanh(self.start(source.summary))

    def step(self, embedded: Tensor, state: Tensor, source: EncodedSource) -> RecurrentStep:
        """One more token (batch, d_model) after ``state`` (batch, d_decoder)."""
        context, weights = source.summary, None
        if self.similarity is not None and source.keys is not None:
            contexts, every = attend(
                state[:, None], source.keys, source.states, mask=source.mask, similarity=self.similarity.compare
            )
            context, weights = contexts[:, 0], every[:, 0]
        return RecurrentStep(self.cell(torch.cat([embedded, context], dim=-1), state), context, weights)

    def output_states(self, states: Tensor, contexts: Tensor, embedded: Tensor) -> Tensor:
        """(..., d_model) from the decoder's states, their contexts and the tokens that they read."""
        hidden: Tensor = self.dropout(torch.tanh(self.readout(torch.cat([states, contexts, embedded], dim=-1))))
        return hidden

    def decode(self, target: Tensor, source: EncodedSource) -> tuple[Tensor, Tensor | None]:
        """Output states (batch, target, d_model) after ids (batch, target), teacher-forced, and the weights if any.

        Weights are (batch, target, source): row t is what was looked at while token t was read and t + 1 predicted.
        """
        embedded = self.read(target)
        state, steps = self.first_state(source), []
        for token in embedded.unbind(dim=1):
            steps.append(self.step(token, state, source))
            state = steps[-1].state
        states = torch.stack([step.state for step in steps], dim=1)
        contexts = torch.stack([step.context for step in steps], dim=1)
        looked = [step.weights for step in steps if step.weights is not None]
        return self.output_states(states, contexts, embedded), torch.stack(looked, dim=1) if looked else None

    def forward(self, source: Tensor, source_lengths: Tensor | None, target: Tensor) -> Tensor:
        """Output states (batch, target, d_model) from source ids, their lengths, and the target shifted right."""
        return self.decode(target, self.encode(source, source_lengths))[0]


@torch.no_grad()
def translate_greedily(
    model: RecurrentTranslator, sources: Sequence[Sequence[int]], *, max_length: int, batch_rows: int = 64
) -> list[list[int]]:
    """Target ids, end-of-sentence left out, for source ids (language tag first, end-of-sentence last)."""
    config, device = model.config, model.embedding.weight.device
    results: list[list[int]] = [[] for _ in sources]
    by_length = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    for begin in range(0, len(by_length), batch_rows):
        rows = by_length[begin : begin + batch_rows]
        lengths = torch.tensor([len(sources[i]) for i in rows], device=device)
        source = model.encode(pad([sources[i] for i in rows], config.pad_id).to(device), lengths)
        state = model.first_state(source)
        ids = torch.full((len(rows),), config.bos_id, device=device)
        running = set(range(len(rows)))
        for _ in range(max_length):
            embedded = model.read(ids[:, None])[:, 0]
            step = model.step(embedded, state, source)
            state = step.state
            ids = model.logits(model.output_states(state, step.context, embedded)).argmax(dim=-1)
            chosen = ids.tolist()
            running -= {row for row in running if chosen[row] == config.eos_id}
            if not running:
                break
            for row in running:
                results[rows[row]].append(chosen[row])
    return results
