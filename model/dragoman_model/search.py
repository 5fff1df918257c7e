"""Decoding in PyTorch, for evaluation and as the plain reference for the served engine: greedy is a beam of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dragoman_model.attention import MultiHeadAttention, attend
from dragoman_model.batching import pad
from dragoman_model.transformer import Memory, Transformer


@dataclass
class Cache:
    """What decoding has computed: each layer's keys and values of the tokens so far, and the source's."""

    self_keys: list[Tensor]
    """Per layer (rows, heads, time, head_dim)."""
    self_values: list[Tensor]
    memory: Memory
    source_lengths: Tensor

    def select(self, rows: Tensor) -> Cache:
        """The same for a choice of rows, with repetition."""
        return Cache(
            [k[rows] for k in self.self_keys],
            [v[rows] for v in self.self_values],
            [(k[rows], v[rows]) for k, v in self.memory],
            self.source_lengths[rows],
        )


def start_cache(model: Transformer, source: Tensor, source_lengths: Tensor) -> Cache:
    """Encode ids (rows, source); nothing is decoded yet."""
    memory = model.project_memory(model.encode(source, source_lengths))
    empty = memory[0][0].new_zeros(source.shape[0], model.config.num_heads, 0, model.config.head_dim)
    layers = model.config.decoder_layers
    return Cache([empty] * layers, [empty] * layers, memory, source_lengths)


def step(model: Transformer, ids: Tensor, cache: Cache) -> Tensor:
    """Logits (rows, vocabulary) after one more token (rows,); the cache grows by it."""
    time = cache.self_keys[0].shape[2]
    embedded = model.embedding(ids[:, None]) * model.config.d_model**0.5
    x = embedded + model.decoder_positions(time + 1)[time:]  # (rows, 1, d_model)
    mask = model.source_mask(cache.source_lengths, cache.memory[0][0].shape[2])
    for number, layer in enumerate(model.decoder_layers):
        entered = layer.self_residual.enter(x)
        queries, keys, values = layer.self_attention.project(entered, None)
        cache.self_keys[number] = torch.cat([cache.self_keys[number], keys], dim=2)
        cache.self_values[number] = torch.cat([cache.self_values[number], values], dim=2)
        context = attend(queries, cache.self_keys[number], cache.self_values[number])[0]
        x = layer.self_residual.leave(x, _merge(layer.self_attention, context))
        entered = layer.cross_residual.enter(x)
        x = layer.cross_residual.leave(x, layer.cross_attention(entered, cache.memory[number], mask=mask))
        x = layer.feed_forward_residual.leave(x, layer.feed_forward(layer.feed_forward_residual.enter(x)))
    return model.logits(model.decoder_norm(x))[:, 0]


def _merge(attention: MultiHeadAttention, context: Tensor) -> Tensor:
    merged: Tensor = attention.output(context.transpose(1, 2).flatten(2))
    return merged


@torch.no_grad()
def translate_ids(
    model: Transformer,
    sources: Sequence[Sequence[int]],
    *,
    beam_size: int = 1,
    max_length: int,
    length_penalty: float = 1.0,
    batch_tokens: int = 4000,
) -> list[list[int]]:
    """Target ids, end-of-sentence left out, for source ids (language tag first, end-of-sentence last).

    A hypothesis of n tokens (end-of-sentence included) and log-probability s ranks by s / n^length_penalty. A source is
    done when ``beam_size`` of its hypotheses have ended, or at ``max_length``. ``batch_tokens`` bounds rows x source
    tokens held at once.
    """
    device = model.embedding.weight.device
    results: list[list[int]] = [[] for _ in sources]
    by_length = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    begin = 0
    while begin < len(by_length):
        end = begin + 1
        while end < len(by_length) and (end - begin + 1) * beam_size * len(sources[by_length[end]]) <= batch_tokens:
            end += 1
        chosen = by_length[begin:end]
        source = pad([sources[i] for i in chosen], model.config.pad_id).to(device)
        lengths = torch.tensor([len(sources[i]) for i in chosen], device=device)
        decoded = _beam_search(
            model, source, lengths, beam=beam_size, max_length=max_length, length_penalty=length_penalty
        )
        for index, ids in zip(chosen, decoded, strict=True):
            results[index] = ids
        begin = end
    return results


@dataclass
class _Sentence:
    """One source under search: its place in the batch and its finished hypotheses."""

    index: int
    finished: int = 0
    best_score: float = float("-inf")
    best: list[int] = field(default_factory=list)

    def add(self, ids: list[int], score: float) -> None:
        """Take in a hypothesis that ended."""
        self.finished += 1
        if score > self.best_score:
            self.best_score, self.best = score, ids


def _beam_search(
    model: Transformer, source: Tensor, lengths: Tensor, *, beam: int, max_length: int, length_penalty: float
) -> list[list[int]]:
    config = model.config
    cache = start_cache(model, source, lengths)
    sentences = [_Sentence(i) for i in range(source.shape[0])]
    live = sentences
    tokens = torch.zeros(source.shape[0], 1, 0, dtype=torch.long, device=source.device)  # (live, beams, time)
    scores = torch.zeros(source.shape[0], 1, device=source.device)
    ids = torch.full((source.shape[0],), config.bos_id, device=source.device)
    for time in range(1, max_length + 1):
        log_probs = step(model, ids, cache).log_softmax(dim=-1)
        width = scores.shape[1]
        total = scores[:, :, None] + log_probs.view(len(live), width, -1)
        # Of 2 x beam candidates at most beam can end (one a live hypothesis), so beam are left to go on.
        top, flat = total.flatten(1).topk(min(2 * beam, total[0].numel()), dim=-1)
        parents, words = flat // config.vocabulary, flat % config.vocabulary
        ended = words == config.eos_id
        for row, column in ((ended | (time == max_length)) & top.isfinite())[:, :beam].nonzero().tolist():
            before = tokens[row, int(parents[row, column])].tolist()
            last = [] if ended[row, column] else [int(words[row, column])]
            live[row].add(before + last, float(top[row, column]) / time**length_penalty)
        scores, picked = top.masked_fill(ended, float("-inf")).topk(min(beam, top.shape[1]), dim=-1)
        going = [row for row, sentence in enumerate(live) if sentence.finished < beam]
        if not going or time == max_length:
            break
        keep = torch.tensor(going, device=source.device)
        origin, chosen = parents.gather(1, picked), words.gather(1, picked)
        history = tokens.gather(1, origin[:, :, None].expand(-1, -1, time - 1))
        tokens = torch.cat([history, chosen[:, :, None]], dim=2)[keep]
        first_row = torch.arange(len(live), device=source.device)[:, None] * width
        cache, scores = cache.select((first_row + origin)[keep].flatten()), scores[keep]
        live = [live[row] for row in going]
        ids = tokens[:, :, -1].flatten()
    return [sentence.best for sentence in sentences]
