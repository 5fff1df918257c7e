"""A target token that is the model's unknown one, replaced by the source word that it attends to most."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dragoman_server.codec import Codec
from dragoman_server.decoding.hypothesis import Answer

_WORD = re.compile(r"\w+(?:[-'\u2019]\w+)*|[^\w\s]+")
_TAG = 1
"""Source ids before the text's own."""


def replaced(answer: Answer, source: str, unknown_id: int, codec: Codec, stops: Sequence[str] = ()) -> str:
    """The answer's text. Unknown tokens in a row that attend to the same word stand for it once.

    The answer has its attention, (tokens, source ids): the language tag's and end-of-sentence's columns are passed
    over. An unknown token that attends to no word is left out, as it is without replacing.
    """
    unknown = [i for i, token_id in enumerate(answer.token_ids) if token_id == unknown_id]
    if not unknown or answer.attention is None:
        return codec.decode(answer.token_ids) if answer.text is None else answer.text
    offsets = codec.offsets(source)
    words = [(found.start(), found.end()) for found in _WORD.finditer(source)]
    chosen: dict[int, tuple[int, int] | None] = {}
    for position in unknown:
        columns = answer.attention[position][_TAG : _TAG + len(offsets)]
        place = offsets[int(columns.argmax())] if len(columns) else (0, 0)
        chosen[position] = next((word for word in words if word[0] < place[1] and place[0] < word[1]), None)
    kept = [
        i
        for i in range(len(answer.token_ids))
        if i not in chosen or (chosen[i] is not None and chosen.get(i - 1) != chosen[i])
    ]
    ids = [answer.token_ids[i] for i in kept]
    named = {new: source[slice(*word)] for new, old in enumerate(kept) if (word := chosen.get(old)) is not None}
    text = codec.decode_with(ids, named)
    if answer.text is not None:  # a stop sequence has cut it
        text = text[: min([at for stop in stops if (at := text.find(stop)) >= 0], default=len(text))]
    return text
