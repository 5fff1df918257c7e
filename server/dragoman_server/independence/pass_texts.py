"""The texts that an encoder is asked to read: sentences, pairs of them, and some with a token hidden."""

from __future__ import annotations

import random
from collections.abc import Sequence

from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server.encoder_codec import EncoderCodec
from dragoman_server.pass_runtime import EncoderInput


def read_texts(sentences: Sequence[str], codec: EncoderCodec, manifest: Bundle, *, seed: int) -> list[EncoderInput]:
    """Each sentence, cut to the longest text; of a model of two segments every other one with the next as a pair.

    Of a model that fills masks, every other text has a token hidden, drawn by ``seed``.
    """
    room = manifest.limits.source_tokens - 3
    ids = [each[:room] for each in codec.encode_batch(sentences)]
    found = []
    for number, own in enumerate(ids):
        if manifest.dimensions.segments and number % 2:
            half = room // 2
            found.append(codec.pair(own[:half], ids[number - 1][: room - half]))
        else:
            found.append(codec.single(own))
    return hide_some(found, manifest, seed=seed)


def texts_of_every_length(manifest: Bundle, *, words: Sequence[int], seed: int) -> list[EncoderInput]:
    """Two texts for each length from 3 to the longest, of random ``words``: pairs and hidden tokens among them."""
    chance, special = random.Random(seed), manifest.special_ids
    found = []
    for length in range(3, manifest.limits.source_tokens + 1):
        ids = [special.cls, *chance.choices(words, k=length - 2), special.sep]
        found.append(EncoderInput(ids))
        if manifest.dimensions.segments:
            begin = chance.randrange(1, length)
            found.append(EncoderInput(ids, [0] * begin + [1] * (length - begin)))
        else:
            found.append(EncoderInput([special.cls, *chance.choices(words, k=length - 2), special.sep]))
    return hide_some(found, manifest, seed=seed)


def hide_some(texts: Sequence[EncoderInput], manifest: Bundle, *, seed: int) -> list[EncoderInput]:
    """Every other text with a token hidden behind the mask, where the model fills masks."""
    if Bundle.TASK_FILL_MASK not in manifest.tasks:
        return list(texts)
    chance, found = random.Random(f"{seed} hidden"), []
    for number, text in enumerate(texts):
        if number % 2 or len(text.ids) < 3:
            found.append(text)
            continue
        place = chance.randrange(1, len(text.ids) - 1)
        ids = [manifest.special_ids.mask if at == place else token for at, token in enumerate(text.ids)]
        found.append(text._replace(ids=ids, mask_positions=(place,)))
    return found
