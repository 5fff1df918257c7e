"""Messages that can be decoded, with values that nobody sends: built from the types, or from sound requests."""

from __future__ import annotations

import math
import random
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(1 << 31), (1 << 31) - 1),
}
_USUAL_INTEGERS = (0, 1, 2, 3, 5, 9, 10, 16, 17, 24, 64, 255, 256, 1000, 1001, 65_536, 65_537)
_FLOATS = (0.0, -0.0, 1.0, 0.5, -1.0, 2.0, 8.0, 1e-45, 1e-7, 3.4e38, -3.4e38, math.inf, -math.inf, math.nan)
_WORDS = ("the", "harbour", "old", "Fahrrad", "<2de>", "</s>", "[MASK]", "de", "en", "tiny", "x")
STRINGS = (
    "",
    " ",
    "\0",
    "\ufeff",
    "\n\r\u2028\u2029\x85",
    "e" + "\u0301" * 300,
    "👩\u200d👩\u200d👧\u200d👦🏳️\u200d🌈",
    "\u202egnitirw\u202c \u200f\u05e9\u05dc\u05d5\u05dd",
    "\U0010fffd\U000e0001\ue000",
    "Ａ①ﬁ",
    "%s%n{0}{}$(id)`id`",
    "../../etc",
    "tiny@",
    "tiny@1",
    "tiny@99999999999999999999999",
    "<pad><unk><s></s><2de><2en>",
    "[MASK] the [MASK]",
    "[CLS] [SEP] [PAD]",
    "a" * 101,
    "The harbour lies below the old town. " * 3,
    "1. 2. 3. ? ! … 。\n\n\t- * \n",
)
_LONG = ("word " * 1500, "x" * 20_000, "a. " * 2100, "\u0301" * 8000)
_SHARE_LONG = 0.002


def value(chance: random.Random, field: FieldDescriptor, depth: int) -> Any:
    """A value of the field's type, from its edges."""
    kind = field.cpp_type
    if kind in _INTEGERS:
        least, most = _INTEGERS[kind]
        return min(most, max(least, chance.choice([*_USUAL_INTEGERS, least, most, -1, chance.randint(least, most)])))
    if kind in {FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE}:
        return chance.choice(_FLOATS)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return chance.random() < 0.5
    if kind == FieldDescriptor.CPPTYPE_STRING:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return chance.randbytes(chance.choice([0, 1, 300]))
        return text(chance)
    assert field.message_type is not None
    return built(chance, field.message_type, depth + 1)


def text(chance: random.Random) -> str:
    """A string that is UTF-8, and seldom what anybody would send."""
    if chance.random() < _SHARE_LONG:
        return chance.choice(_LONG)
    if chance.random() < 0.4:
        return " ".join(chance.choice(_WORDS) for _ in range(chance.randint(1, 6)))
    if chance.random() < 0.3:
        return "".join(map(chr, (_code_point(chance) for _ in range(chance.randint(1, 20)))))
    return chance.choice(STRINGS)


def _code_point(chance: random.Random) -> int:
    point = chance.choice([chance.randrange(0x80), chance.randrange(0x3000), chance.randrange(0x110000)])
    return 0xFFFD if 0xD800 <= point < 0xE000 else point  # a surrogate is no character


def built(chance: random.Random, descriptor: Any, depth: int = 0) -> Message:
    """A message of the type, which is a ``Descriptor`` of either of protobuf's kinds: each field is there or not."""
    message: Message = message_factory.GetMessageClass(descriptor)()
    share = chance.choice([0.1, 0.3, 0.8]) / (1 + depth)
    for field in descriptor.fields:
        if chance.random() < share:
            put(chance, message, field, depth)
    return message


def put(chance: random.Random, message: Message, field: FieldDescriptor, depth: int = 0) -> None:
    """Give the field another value."""
    if not field.is_repeated:
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            getattr(message, field.name).CopyFrom(value(chance, field, depth))
        else:
            setattr(message, field.name, value(chance, field, depth))
        return
    items = getattr(message, field.name)
    if _is_map(field):
        assert field.message_type is not None
        entry = field.message_type.fields_by_name["value"]
        for _ in range(chance.choice([1, 2, 17])):
            name = chance.choice([*items, text(chance)]) if len(items) else text(chance)
            items[name].CopyFrom(built(chance, entry.message_type, depth + 1))
        return
    del items[:]
    count = chance.choice([0, 1, 2, 3, 17, 65, 257 if depth == 0 else 3])
    one = value(chance, field, depth)
    items.extend([one if chance.random() < 0.5 else value(chance, field, depth) for _ in range(min(count, 300))])


def _is_map(field: Any) -> bool:
    """Whether it is a map, from strings to messages as all of ours are."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def disturbed(chance: random.Random, sound: Message) -> Message:
    """A sound request with one to three fields changed, in itself or in a message within it."""
    message = type(sound)()
    message.CopyFrom(sound)
    for _ in range(chance.randint(1, 3)):
        inner = message
        while True:
            known: Any = inner.DESCRIPTOR.fields
            if not known:
                return message
            field: FieldDescriptor = chance.choice(known)
            if field.cpp_type != FieldDescriptor.CPPTYPE_MESSAGE or chance.random() < 0.1:
                put(chance, inner, field, 1)
                break
            child = getattr(inner, field.name)
            if _is_map(field):
                inner = child[chance.choice([*child, text(chance)])]
            elif field.is_repeated:
                inner = chance.choice(child) if len(child) else child.add()
            else:
                child.SetInParent()
                inner = child
    return message
