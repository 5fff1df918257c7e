"""English texts for load tests, drawn from a seed: sentences of a wanted length, documents, requests to classify."""

from __future__ import annotations

from random import Random

_SUBJECTS = (
    "the baker", "my brother", "the two pilots", "an old friend", "the night train", "nobody in the village",
    "the new teacher", "our neighbour's dog", "a tall woman", "the committee",
)  # fmt: skip
_VERBS = ("lost", "found", "wanted to see", "forgot", "was waiting for", "had never heard of", "wrote about", "sold")
_OBJECTS = (
    "the blue door", "three letters", "the last boat", "a bag of apples", "the shortest way home", "the broken clock",
    "a ticket to the city", "the answer",
)  # fmt: skip
_PLACES = ("near the harbour", "in the kitchen", "behind the old mill", "on the second floor", "at the market", "")
_TIMES = ("this morning", "before the storm", "late in the evening", "when the bells rang", "last summer", "")
_JOINS = ("and", "but", "because", "while", "although")
_EXCLAMATIONS = ("yes", "thank you", "good evening", "not now", "come here", "what a day", "see you on Monday")
_REQUESTS = (
    "what is the weather like", "set an alarm for seven", "how much money is in my account", "book a table for two",
    "translate good morning", "where is my luggage", "tell me a joke", "turn the lights off", "is it going to rain",
    "how do I get to the airport", "play some music", "when does my card expire",
)  # fmt: skip
_TAILS = ("", "please", "tomorrow", "in the city", "for my sister", "today", "as soon as you can", "on Friday")


def sentence(random: Random, words: int) -> str:
    """A sentence of about ``words`` words: three fewer to fourteen more."""
    if words <= 3:
        return _finished(random.choice(_EXCLAMATIONS))
    written = _clause(random, long=words > 7)
    while words - len(written) > 3:
        written += [random.choice(_JOINS), *_clause(random, long=words - len(written) > 7)]
    return _finished(" ".join(written))


def document(random: Random, sentences: int) -> str:
    """So many sentences of 5 to 20 words, in paragraphs of four."""
    written = [sentence(random, random.randint(5, 20)) for _ in range(sentences)]
    return "\n\n".join(" ".join(written[i : i + 4]) for i in range(0, sentences, 4))


def request(random: Random) -> str:
    """What somebody may ask of an assistant."""
    return f"{random.choice(_REQUESTS)} {random.choice(_TAILS)}".strip()


def _clause(random: Random, *, long: bool) -> list[str]:
    parts = [random.choice(_SUBJECTS), random.choice(_VERBS), random.choice(_OBJECTS)]
    if long:
        parts += [random.choice(_PLACES), random.choice(_TIMES)]
    return " ".join(parts).split()


def _finished(text: str) -> str:
    return text[0].upper() + text[1:] + "."
