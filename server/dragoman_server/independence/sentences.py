"""Sentences of our own, English and German, of 1 to 40 words: made by combining parts, so as many as are wanted."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

MOST_WORDS = 40
_SHORT = 3


@dataclass(frozen=True)
class Sentence:
    """A text, and the code of its language where that is known."""

    text: str
    language: str | None = None


@dataclass(frozen=True)
class _Grammar:
    short: tuple[str, ...]
    """What stands alone, one to ``_SHORT`` words."""
    clause: tuple[tuple[str, ...], ...]
    """The parts of a clause in their order; "" leaves one out."""
    joins: tuple[str, ...]
    """Between two clauses, whose order of words they do not change."""


_ENGLISH = _Grammar(
    short=(
        "yes", "perhaps", "never", "thanks", "tomorrow", "not today", "good morning", "come in", "well done",
        "see you soon", "in the evening", "as you like", "nobody knows", "two more tickets", "what a pity",
    ),
    clause=(
        ("my sister", "the old teacher", "our neighbour", "a young doctor", "the new captain", "your friend Karl",
         "nobody", "the man with the grey hat"),
        ("bought", "was looking for", "forgot", "wanted to sell", "has never seen", "wrote about", "could not find"),
        ("a red bicycle", "the last train", "the keys", "an expensive watch", "the letter", "some bread", "the answer"),
        ("", "", "at the station", "in the garden behind the church", "near the river", "on the third floor",
         "at home"),
        ("", "", "yesterday", "before the rain began", "on a cold morning in March",
         "when the shops were already closed"),
    ),
    joins=(" and", " but", " while", " because", " although", ", and then"),
)  # fmt: skip

_GERMAN = _Grammar(
    short=(
        "ja", "vielleicht", "niemals", "danke", "morgen", "nicht heute", "guten Abend", "komm herein", "gut gemacht",
        "bis bald", "am frühen Morgen", "wie du willst", "niemand weiß es", "noch zwei Karten", "wie schade",
    ),
    clause=(
        ("meine Schwester", "der alte Lehrer", "unser Nachbar", "eine junge Ärztin", "der neue Kapitän",
         "dein Freund Karl", "niemand", "der Mann mit dem grauen Hut"),
        ("kaufte", "suchte", "vergaß", "verkaufte", "fand", "brauchte", "beschrieb"),
        ("", "", "gestern", "noch vor dem Regen", "an einem kalten Morgen im März", "kurz vor Mitternacht"),
        ("", "", "am Bahnhof", "im Garten hinter der Kirche", "in der Nähe des Flusses", "im dritten Stock",
         "zu Hause"),
        ("ein rotes Fahrrad", "die letzte Fahrkarte", "die Schlüssel", "eine teure Uhr", "den Brief", "etwas Brot",
         "die Antwort"),
    ),
    joins=(" und", ", aber", ", denn", ", und dann gab es Streit, denn", ", doch"),
)  # fmt: skip

_GRAMMARS = {"en": _ENGLISH, "de": _GERMAN}


def own_sentences(count: int, *, seed: int, languages: Sequence[str] = ("en", "de")) -> list[Sentence]:
    """``count`` different sentences, the languages in turn; the same for the same arguments."""
    chance = random.Random(seed)
    found: dict[str, Sentence] = {}
    while len(found) < count:
        language = languages[len(found) % len(languages)]
        text = _sentence(_GRAMMARS[language], chance)
        found[text] = Sentence(text, language)
    return list(found.values())


def _sentence(grammar: _Grammar, chance: random.Random) -> str:
    wanted = chance.randint(1, MOST_WORDS)
    if wanted <= _SHORT:
        text = chance.choice(grammar.short)
    else:
        text = min((_clause(grammar, chance) for _ in range(8)), key=lambda clause: abs(_words(clause) - wanted))
        while _words(text) < wanted:
            longer = f"{text}{chance.choice(grammar.joins)} {_clause(grammar, chance)}"
            if _words(longer) > MOST_WORDS:
                break
            text = longer
    return text[0].upper() + text[1:] + chance.choice(".!?")


def _words(text: str) -> int:
    return len(text.split())


def _clause(grammar: _Grammar, chance: random.Random) -> str:
    parts = [chance.choice(options) for options in grammar.clause]
    return " ".join(part for part in parts if part)
