"""Whether what an encoder says of a text depends on the texts that are in its pass."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from dragoman_server.independence.comparison import Comparison
from dragoman_server.pass_runtime import EncoderInput, EncoderOutput, PassRuntime

KINDS: Mapping[str, str] = {
    "states": "states",
    "label_logits": "labels",
    "tag_logits": "tags",
    "mask_logits": "masks",
}
"""What an encoder gives (``EncoderOutput``), and what it is called in the report."""

_ROUNDS = 3


def compare_passes(
    runtime: PassRuntime, inputs: Sequence[EncoderInput], *, seed: int, advance: Callable[[int], None]
) -> dict[str, Comparison]:
    """Each text in a pass by itself, then ``_ROUNDS`` times in a pass of random size and company; by kind.

    The tokens of a comparison are decisions: the likeliest label of a text, tag of a token, filling of a mask.
    """
    alone = []
    for text in inputs:
        alone += runtime.run([text])
        advance(1)
    found: dict[str, Comparison] = {}
    chance = random.Random(seed)
    for _ in range(_ROUNDS):
        order = list(range(len(inputs)))
        chance.shuffle(order)
        while order:
            count = chance.randint(1, runtime.max_rows)
            batch, order = order[:count], order[count:]
            outputs = runtime.run([inputs[number] for number in batch])
            for number, output in zip(batch, outputs, strict=True):
                _compare(found, number, alone[number], output)
            advance(len(batch))
    return found


def _compare(found: dict[str, Comparison], number: int, alone: EncoderOutput, other: EncoderOutput) -> None:
    for field, kind in KINDS.items():
        one, two = getattr(alone, field), getattr(other, field)
        if one is None or not one.size:
            continue
        comparison = found.setdefault(kind, Comparison())
        comparison.requests += 1
        comparison.add_scores(one, two)
        if kind == "states":
            continue
        comparison.tokens += one[..., 0].size
        different = int((one.argmax(-1) != two.argmax(-1)).sum())
        comparison.different_tokens += different
        if different:
            comparison.parted.append(number)
