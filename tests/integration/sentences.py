"""Thousands of different English sentences of mixed lengths."""

from __future__ import annotations

from dragoman_server.independence.sentences import own_sentences


def sentences(count: int, seed: int = 1) -> list[str]:
    """``count`` different English sentences of 1 to 40 words."""
    return [sentence.text for sentence in own_sentences(count, seed=seed, languages=["en"])]
