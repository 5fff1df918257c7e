"""Changes to a message's bytes that know protobuf's wire format: most still look like a message, and few are one."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

VARINT, FIXED64, BYTES, GROUP_BEGIN, GROUP_END, FIXED32 = range(6)
_LARGEST_FIELD = (1 << 29) - 1
_DEEP = 250
"""Levels of nesting: more than the 100 that protobuf reads."""


@dataclass
class Field:
    """One field as it stands on the wire: its number, wire type, and what follows its tag."""

    number: int
    kind: int
    body: bytes
    """Without the length that stands before bytes."""

    def encoded(self) -> bytes:
        """As it stands on the wire."""
        length = varint(len(self.body)) if self.kind == BYTES else b""
        return tag(self.number, self.kind) + length + self.body


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def tag(number: int, kind: int) -> bytes:
    """What a field begins with."""
    return varint(number << 3 | kind)


def fields(data: bytes) -> list[Field]:
    """The fields of a sound message; ValueError for bytes that are none."""
    found = []
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        number, kind = key >> 3, key & 7
        begin = at
        if kind == VARINT:
            _, at = _read_varint(data, at)
        elif kind in {FIXED64, FIXED32}:
            at += 8 if kind == FIXED64 else 4
        elif kind == BYTES:
            length, begin = _read_varint(data, at)
            at = begin + length
        else:
            raise ValueError(f"wire type {kind}")
        if at > len(data):
            raise ValueError("a field ends beyond the message")
        found.append(Field(number, kind, data[begin:at]))
    return found


def joined(parts: list[Field]) -> bytes:
    """The message that these fields are."""
    return b"".join(part.encoded() for part in parts)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("a varint ends beyond the message")


Mutation = Callable[[random.Random, bytes], bytes]


def bit_flips(chance: random.Random, data: bytes) -> bytes:
    """One to eight bits are others."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 8) if changed else 0):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def truncation(chance: random.Random, data: bytes) -> bytes:
    """The end is missing."""
    return data[: chance.randint(0, max(0, len(data) - 1))]


def length_lie(chance: random.Random, data: bytes) -> bytes:
    """A field of bytes is said to be of another length."""
    parts = fields(data)
    lies = [at for at, part in enumerate(parts) if part.kind == BYTES]
    if not lies:
        return data + tag(1, BYTES) + varint(chance.choice([1, 127, 1 << 31, (1 << 64) - 1]))
    at = chance.choice(lies)
    part = parts[at]
    length = chance.choice([0, len(part.body) + 1, len(part.body) - 1, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 64) - 1])
    lie = tag(part.number, BYTES) + varint(max(0, length)) + part.body
    return joined(parts[:at]) + lie + joined(parts[at + 1 :])


def unknown_field(chance: random.Random, data: bytes) -> bytes:
    """A field of a number that no message has, of any wire type; its group may have no end."""
    number = chance.choice([chance.randint(100, 10_000), _LARGEST_FIELD, 0, 19_000])
    kind = chance.choice([VARINT, FIXED64, BYTES, GROUP_BEGIN, GROUP_END, FIXED32, 6, 7])
    body = chance.randbytes(chance.choice([0, 4, 8, 64]))
    begin = tag(number, kind) + (varint(len(body)) if kind == BYTES else b"") + body
    return begin + data if chance.random() < 0.5 else data + begin


def wrong_wire_type(chance: random.Random, data: bytes) -> bytes:
    """A field of a known number is said to be of another wire type."""
    parts = fields(data)
    if not parts:
        return tag(chance.randint(1, 8), chance.choice([VARINT, FIXED64, FIXED32])) + data
    at = chance.randrange(len(parts))
    kind = chance.choice([kind for kind in (VARINT, FIXED64, BYTES, FIXED32) if kind != parts[at].kind])
    parts[at] = Field(parts[at].number, kind, parts[at].body)
    return joined(parts)


def huge_varint(chance: random.Random, data: bytes) -> bytes:
    """A number of the largest size, of a byte too many, or without an end."""
    value = chance.choice([varint((1 << 64) - 1), b"\xff" * 10 + b"\x01", b"\xff" * 9 + b"\x7f", b"\x80" * 12])
    return data + tag(chance.randint(1, 30), VARINT) + value


def deep_nesting(chance: random.Random, data: bytes) -> bytes:
    """Messages in messages in messages, or groups in groups."""
    number, levels = chance.randint(1, 30), chance.randint(20, _DEEP)
    if chance.random() < 0.5:
        return data + tag(number, GROUP_BEGIN) * levels + tag(number, GROUP_END) * chance.choice([0, levels])
    nested = b""
    for _ in range(levels):
        nested = tag(number, BYTES) + varint(len(nested)) + nested
    return data + nested


def repetition(chance: random.Random, data: bytes) -> bytes:
    """A field comes many times: of one that is not repeated the last counts, and messages are merged."""
    parts = fields(data)
    if not parts:
        return data
    at = chance.randrange(len(parts))
    times = min(chance.choice([2, 17, 300]), 1 + 20_000 // max(1, len(parts[at].body)))
    return joined([*parts[:at], *[parts[at]] * times, *parts[at + 1 :]])


def disorder(chance: random.Random, data: bytes) -> bytes:
    """Fields are left out and change places; what is left is a sound message."""
    parts = [part for part in fields(data) if chance.random() < 0.8]
    chance.shuffle(parts)
    return joined(parts)


def noise_in_a_field(chance: random.Random, data: bytes) -> bytes:
    """A field holds other bytes, of its own length or of another: seldom UTF-8, and seldom a message."""
    parts = fields(data)
    if not parts:
        return chance.randbytes(chance.randint(1, 64))
    at = chance.randrange(len(parts))
    part = parts[at]
    if part.kind == BYTES:
        parts[at] = Field(part.number, BYTES, chance.randbytes(chance.choice([len(part.body), 1, 7, 200])))
    elif part.kind == VARINT:
        parts[at] = Field(part.number, VARINT, varint(chance.getrandbits(chance.choice([1, 7, 31, 32, 63, 64]))))
    else:
        parts[at] = Field(part.number, part.kind, chance.randbytes(len(part.body)))
    return joined(parts)


def noise_inside(chance: random.Random, data: bytes) -> bytes:
    """The same changes to a message within the message."""
    parts = fields(data)
    inner = [at for at, part in enumerate(parts) if part.kind == BYTES and part.body]
    if not inner:
        return bit_flips(chance, data)
    at = chance.choice(inner)
    try:
        fields(parts[at].body)
    except ValueError:
        return bit_flips(chance, data)
    body = mutated(chance, parts[at].body)
    parts[at] = Field(parts[at].number, BYTES, body)
    return joined(parts)


def noise(chance: random.Random, data: bytes) -> bytes:
    """Bytes that never were a message."""
    return chance.randbytes(chance.choice([1, 2, 16, len(data), 4096]))


MUTATIONS: tuple[Mutation, ...] = (
    bit_flips,
    truncation,
    length_lie,
    unknown_field,
    wrong_wire_type,
    huge_varint,
    deep_nesting,
    repetition,
    disorder,
    noise_in_a_field,
    noise_inside,
    noise,
)


def mutated(chance: random.Random, data: bytes) -> bytes:
    """A sound message, changed in one of these ways, or in two."""
    changed = chance.choice(MUTATIONS)(chance, data)
    if chance.random() < 0.2:
        try:
            changed = chance.choice(MUTATIONS)(chance, changed)
        except ValueError:  # it is no message any more
            return bit_flips(chance, changed)
    return changed
