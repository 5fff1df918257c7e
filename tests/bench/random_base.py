"""A Transformer-base with random weights whose source says how long its target is.

A random model never ends by itself, and a length set from outside would be one length for a whole call of CTranslate2.
So some of the weights are not random: a source may hold an END token, and the target ends where it stands. This
survives 8 bits in every runtime, beam search too, and costs nothing: the shapes are those of any Transformer-base.

How: the fastest ``_CODE`` position features pass through both stacks untouched. In the last decoder layer one head of
the cross-attention compares them, so step t attends to source position t; it reads whether END (or end-of-sentence)
stands there, and moves ``_END`` features of the state along or against the embedding of end-of-sentence.
"""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn

from dragoman_model.checkpoint import Provenance
from dragoman_model.config import Config
from dragoman_model.recipe import LanguageSection
from dragoman_model.tokenizer import BOS, EOS, PAD, UNK, language_tag, protect
from dragoman_model.transformer import Transformer

VOCABULARY = 32_000
LONGEST = 100
TAG_ID, END_ID, FIRST_WORD = 4, 6, 7
"""The tag in front of every source, the token that stands where the target ends, and the first of the plain words."""

_CODE = 32
_MARK = 510
_END = slice(414, 510)
"""Where position features hardly change with the position: so they do not disturb."""
_RESERVED = [*range(_CODE), *range(_END.start, _MARK + 1)]
_MARK_SIZE = 3.0
_END_SIZE = 6.0
_EOS_WEIGHT = 0.08
_RESIDUAL = 0.5
"""Scale of what every sub-layer adds, so that the norms treat all tokens alike (as GPT-2 does it)."""
_SHARPNESS = 28.0
"""Attention score of the source position with the step's number, above that of its neighbours."""


def base_config() -> Config:
    """Sizes of Vaswani et al. 2017, table 3, "base", pre-norm."""
    return Config(
        vocabulary=VOCABULARY, d_model=512, num_heads=8, d_ff=2048, encoder_layers=6, decoder_layers=6, max_length=128
    )


@torch.no_grad()
def random_base(seed: int = 1) -> Transformer:
    """The model, in evaluation mode; the same for the same seed."""
    torch.manual_seed(seed)
    model = Transformer(base_config()).eval()
    config = model.config
    weight = model.embedding.weight
    weight[:, _RESERVED] = 0.0
    weight[config.eos_id] = 0.0  # its input is then about as large as that of any other token
    weight[config.eos_id, _END] = _EOS_WEIGHT * _signs()
    weight[[config.eos_id, END_ID], _MARK] = _MARK_SIZE / config.d_model**0.5
    for layer in model.encoder_layers:
        _keep_reserved(layer.self_attention.output, layer.feed_forward.outer)
    for decoder_layer in model.decoder_layers:
        attentions = decoder_layer.self_attention, decoder_layer.cross_attention
        _keep_reserved(*(attention.output for attention in attentions), decoder_layer.feed_forward.outer)
    _align(model)
    return model


def _signs() -> Tensor:
    count = _END.stop - _END.start
    return torch.tensor([1.0, -1.0]).repeat(count // 2)  # their mean is zero: the norms leave it alone


def _keep_reserved(*outputs: nn.Linear) -> None:
    for output in outputs:
        output.weight *= _RESIDUAL
        output.weight[_RESERVED] = 0.0
        output.bias[_RESERVED] = 0.0


def _align(model: Transformer) -> None:
    """Let head 0 of the last cross-attention look at the source position with the step's number."""
    config = model.config
    cross = model.decoder_layers[-1].cross_attention
    head = slice(0, config.head_dim)
    states, entered, mark = _seen(model)
    table = model.decoder_positions(2)[:, :_CODE]
    gap = float(table[0] @ table[0] - table[0] @ table[1])
    (code, shift), (decoder_code, decoder_shift) = _fit(states, model), _fit(entered, model)
    gain = (_SHARPNESS * config.head_dim**0.5 / (gap * code * decoder_code)) ** 0.5
    for linear, offset in ((cross.query, decoder_shift), (cross.key_value, shift)):
        linear.weight[head] = 0.0
        linear.weight[:_CODE, :_CODE] = gain * torch.eye(_CODE)
        linear.bias[:_CODE] = -gain * offset
    values = slice(config.d_model, config.d_model + config.head_dim)
    cross.key_value.weight[values] = 0.0
    cross.key_value.weight[config.d_model, _MARK] = 1.0
    cross.output.weight[_END, 0] = 2.5 * _END_SIZE / mark * _signs()
    cross.output.bias[_END] = -_END_SIZE * _signs()


def _seen(model: Transformer) -> tuple[Tensor, Tensor, float]:
    """What the last cross-attention is given: encoder and decoder states (sentences, time, d_model); and the mark."""
    config, time = model.config, 40
    source, target = torch.randint(FIRST_WORD, config.vocabulary, (2, 16, time))
    source[:, time // 2] = END_ID
    states = model.encode(source, None)
    x = model.embed(target, model.decoder_positions)
    for layer, keys_values in zip(model.decoder_layers[:-1], model.project_memory(states), strict=False):
        x = layer(x, keys_values, None)
    entered: Tensor = model.decoder_layers[-1].cross_residual.enter(x)
    return states, entered, float(states[:, time // 2, _MARK].mean())


def _fit(states: Tensor, model: Transformer) -> tuple[float, float]:
    """The norm made a x position features + b of the position features: a and b."""
    features = model.decoder_positions(states.shape[1])[:, :_CODE]
    found = states[..., :_CODE].mean(dim=0)
    centred = features - features.mean()
    slope = float((centred * found).sum() / (centred * centred).sum())
    return slope, float(found.mean()) - slope * float(features.mean())


def word(token_id: int) -> str:
    """How a plain word or END is written."""
    return f"w{token_id}"


def base_tokenizer() -> Tokenizer:
    """32,000 words without meaning, parted by blanks."""
    special = [PAD, UNK, BOS, EOS, language_tag("de"), language_tag("en")]
    vocabulary = {token: number for number, token in enumerate(special)}
    vocabulary |= {word(number): number for number in range(END_ID, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(special)
    return protect(tokenizer)


def base_provenance() -> Provenance:
    """Made up here; trained on nothing."""
    return Provenance(
        name="base",
        description="Transformer-base with random weights, for measuring speed",
        languages=[LanguageSection(code="de", name="German"), LanguageSection(code="en", name="English")],
        directions=[("en", "de")],
        recipe="",
        updates=0,
        training_data="none",
        licence="Apache-2.0",
        attribution="",
    )


def base_source(words: list[int], target_length: int) -> list[int]:
    """Tag, words with END at position ``target_length``, end-of-sentence (id 3).

    ``target_length`` is 1 to len(words) + 1; at the latter, end-of-sentence itself says it.
    """
    ids = [TAG_ID, *words, 3]
    if not 1 <= target_length < len(ids):
        raise ValueError(f"target_length = {target_length}: 1 to {len(ids) - 1}")
    if target_length < len(ids) - 1:
        ids[target_length] = END_ID
    return ids
