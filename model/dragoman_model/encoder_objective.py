"""The loss of an encoder: what is learnt first, and what is learnt beside it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from dragoman_model.encoder_batching import EncoderBatch
from dragoman_model.text_encoder import TextEncoder


class EncoderObjective(nn.Module):
    """Model and loss in one forward pass, so that DistributedDataParallel sees every use of every weight.

    Labels or tags, where the batch has them, are what is learnt first, and hidden tokens are learnt beside them, with
    ``mask_weight``; otherwise hidden tokens come first, and next sentences beside them (Devlin et al. 2019, A.2).
    """

    def __init__(self, model: TextEncoder, *, smoothing: float, mask_weight: float = 0.0) -> None:
        super().__init__()
        self.model = model
        self.smoothing = smoothing
        self.mask_weight = mask_weight

    def forward(self, batch: EncoderBatch) -> tuple[Tensor, Tensor]:
        """Summed loss and summed log-likelihood of the ``batch.tokens`` first targets, in nats.

        What is learnt beside is added as its own mean, times its weight, for each of the first targets.
        """
        states = self.model(batch.ids, batch.lengths, batch.segments)
        if batch.labels is not None:
            loss, log_likelihood = self._labels(states[:, 0], batch.labels)
        elif batch.tags is not None:
            loss, log_likelihood = self._cross_entropy(
                self.model.tag_logits(states.flatten(0, 1)[batch.tag_positions]), batch.tags
            )
        else:
            loss, log_likelihood = self._hidden(states, batch)
            if batch.follows is not None:
                logits = self.model.next_sentence_logits(states[:, 0]).float()
                pairs = (batch.follows >= 0).sum().clamp_min(1)
                beside = F.cross_entropy(logits, batch.follows, ignore_index=-1, reduction="sum") / pairs
                loss = loss + batch.tokens * beside
            return loss, log_likelihood
        if self.mask_weight and batch.hidden is not None:
            beside = self._hidden(states, batch)[0] / max(1, len(batch.hidden))
            loss = loss + self.mask_weight * batch.tokens * beside
        return loss, log_likelihood

    def _hidden(self, states: Tensor, batch: EncoderBatch) -> tuple[Tensor, Tensor]:
        assert batch.hidden is not None
        # Only the hidden tokens' states reach the vocabulary: a seventh of the work.
        return self._cross_entropy(self.model.mask_logits(states.flatten(0, 1)[batch.mask_positions]), batch.hidden)

    def _cross_entropy(self, logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        log_probability = logits.float().log_softmax(dim=-1)
        picked = log_probability.gather(-1, wanted[:, None]).sum()
        smooth = log_probability.mean(dim=-1).sum()
        return -(1.0 - self.smoothing) * picked - self.smoothing * smooth, picked.detach()

    def _labels(self, first: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.model.label_logits(first).float()
        if self.model.config.multi_label:
            smoothed = wanted * (1.0 - self.smoothing) + self.smoothing / 2
            picked = -F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
            return F.binary_cross_entropy_with_logits(logits, smoothed, reduction="sum"), picked.detach()
        log_probability = logits.log_softmax(dim=-1)
        smoothed = wanted * (1.0 - self.smoothing) + self.smoothing / wanted.shape[-1]
        return -(smoothed * log_probability).sum(), (wanted * log_probability).sum().detach()
