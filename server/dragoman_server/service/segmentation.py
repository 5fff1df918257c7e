"""A text into the segments that are translated, and their translations into a text; white space is kept as it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import sentencex

MOST_CHARACTERS = 100_000
"""Of a text, divided by the hypotheses that are asked for: what bounds the answer's size."""
MOST_SEGMENTS = 2048

Span = tuple[int, int]
"""Begin and end in a text, in code points."""

_LINE_BREAK = re.compile("\r\n|[\n\r\v\f\x85\u2028\u2029]")
_BLANK = re.compile(r"\s")
_BLANKS = re.compile(r"\s+")
# After these a clause is over: before a blank, or anywhere in scripts that are written without blanks.
_CLAUSE_END = re.compile(r"[,;:)\]\u2013\u2014\u2026]\s+|[\uff0c\uff1b\uff1a\u3001]")


def has_line_break(text: str) -> bool:
    """Whether the text has more than one line, be it a blank one."""
    return _LINE_BREAK.search(text) is not None


def translatable(text: str) -> bool:
    """Whether a model has anything to do: a letter or a digit."""
    return any(map(str.isalnum, text))


def is_sentence(text: str, language: str) -> bool:
    """Whether the text is one line and one sentence. Most texts are, so this is quick."""
    return not has_line_break(text) and len(_split(text, language)) <= 1


def sentences(text: str, language: str) -> list[Span]:
    """Where the sentences of every line stand, without the blanks around them; ``language`` is a BCP 47 tag."""
    spans = []
    for begin, end in _lines(text):
        line = text[begin:end]
        position = begin
        for sentence in _split(line, language):
            spans.append((position, position + len(sentence)))
            position += len(sentence)
    return list(_stripped(text, spans))


def _lines(text: str) -> Iterator[Span]:
    begin = 0
    for found in _LINE_BREAK.finditer(text):
        yield begin, found.start()
        begin = found.end()
    yield begin, len(text)


def _split(line: str, language: str) -> list[str]:
    try:
        # Rust code, which counts every blank as one byte: only lengths are used here, so any may stand for any other.
        parts = sentencex.segment(language, _BLANK.sub(" ", line))
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # what a panic becomes; it is no Exception
            raise
        return [line]
    return parts if sum(map(len, parts)) == len(line) else [line]


def _stripped(text: str, spans: Sequence[Span]) -> Iterator[Span]:
    for begin, end in spans:
        inner = text[begin:end]
        if core := inner.strip():
            first = begin + len(inner) - len(inner.lstrip())
            yield first, first + len(core)


def cut(text: str, span: Span, room: int, offsets: Callable[[str], Sequence[Span]]) -> list[Span]:
    """The span in pieces of at most ``room`` tokens each; ``offsets`` says where each token of a text stands.

    Cut after the last clause that ends in the second half of what fits, else before a word, else anywhere. A piece of
    one character is left as it is, whatever its tokens.
    """
    begin, end = span
    inner = text[begin:end]
    places = offsets(inner)
    if len(places) <= room or len(inner) <= 1:
        return [span]
    pieces = []
    start = first = 0
    while len(places) - first > room:
        stop = _best_cut(inner, start, places[first + room][0])
        pieces.append((begin + start, begin + stop))
        start = stop
        while first < len(places) and places[first][0] < start:
            first += 1
    pieces.append((begin + start, end))
    # By itself a piece may have more tokens than it had inside its sentence.
    smaller = max(1, room * 3 // 4)
    fitting = []
    for piece in _stripped(text, pieces):
        fits = len(offsets(text[slice(*piece)])) <= room
        fitting += [piece] if fits else cut(text, piece, smaller, offsets)
    return fitting


def _best_cut(text: str, start: int, limit: int) -> int:
    """Where to cut, after ``start`` and not after ``limit``, if there is room for that much."""
    half = start + (limit - start) // 2
    for pattern, low in ((_CLAUSE_END, half), (_BLANKS, start)):
        ends = [found.end() for found in pattern.finditer(text, start, limit) if found.end() > max(low, start)]
        if ends:
            return ends[-1]
    return max(limit, start + 1)


def join(text: str, spans: Sequence[Span], translations: Sequence[str]) -> tuple[str, list[Span]]:
    """The text with a translation in place of each span, and where each translation then stands."""
    parts: list[str] = []
    targets: list[Span] = []
    read = written = 0
    for (begin, end), translation in zip(spans, translations, strict=True):
        between = text[read:begin]
        parts += (between, translation)
        written += len(between)
        targets.append((written, written + len(translation)))
        written += len(translation)
        read = end
    parts.append(text[read:])
    return "".join(parts), targets
