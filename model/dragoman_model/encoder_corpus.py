"""The vocabulary of an encoder-only run, and how labelled and tagged texts become what the model reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from dragoman_model.config import EncoderConfig
from dragoman_model.encoder_batching import EncoderText, make_text
from dragoman_model.encoder_recipes import EncoderRecipe, TextsSection
from dragoman_model.encoder_tokenizer import encode_words, set_case, train_encoder_tokenizer
from dragoman_model.labelled_texts import LabelledText
from dragoman_model.tagged_sentences import TaggedSentence
from dragoman_model.tokenizer import encode_texts

Texts = Callable[[], Sequence[str]]


def encoder_vocabulary(recipe: EncoderRecipe, data: TextsSection, texts: Texts, given: Tokenizer | None) -> Tokenizer:
    """The vocabulary that was given or else one learnt from ``texts``, reading case as the recipe says."""
    if given is None:
        return train_encoder_tokenizer(texts(), recipe.tokenizer.vocabulary, lowercase=data.lowercase)
    set_case(given, lowercase=data.lowercase)
    return given


def encode_labelled(
    texts: Sequence[LabelledText], tokenizer: Tokenizer, config: EncoderConfig, most: int
) -> list[EncoderText]:
    """Each text, or pair of texts, as the model reads it, cut to ``most`` tokens."""
    first = encode_texts(tokenizer, [text.text for text in texts])
    second = encode_texts(tokenizer, [text.text_pair or "" for text in texts])
    return [
        make_text(config, a, None if text.text_pair is None else b, most=most)
        for text, a, b in zip(texts, first, second, strict=True)
    ]


@dataclass(frozen=True)
class TaggedText:
    """A sentence as the model reads it, and where its words are."""

    text: EncoderText
    positions: list[int]
    """Of each word that is in the text: its first piece, counted from [CLS]."""
    words: list[int]
    """The numbers of those words in the sentence: all but those without a piece, or cut off."""


def encode_tagged(
    sentences: Sequence[TaggedSentence], tokenizer: Tokenizer, config: EncoderConfig, most: int
) -> list[TaggedText]:
    """Each sentence, cut to ``most`` tokens."""
    encoded = encode_words(tokenizer, [sentence.words for sentence in sentences])
    out = []
    for sentence in encoded:
        there = [(word, at + 1) for word, at in enumerate(sentence.first) if at is not None and at + 2 < most]
        text = make_text(config, sentence.ids, most=most)
        out.append(TaggedText(text, [at for _, at in there], [word for word, _ in there]))
    return out
