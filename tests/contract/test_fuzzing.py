"""The short form of ``make fuzz``: messages that nobody means, and an HTTP/2 that is none. Seeds are fixed."""

from __future__ import annotations

import random
from pathlib import Path

from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.attacking import attack_all
from tests.fuzz.calling import call_handler
from tests.fuzz.campaign import campaign
from tests.fuzz.http2_attacks import ATTACKS
from tests.fuzz.judging import fault
from tests.fuzz.messages import built, disturbed
from tests.fuzz.requests import METHODS, Attempt, Method
from tests.fuzz.served import handlers, write_models
from tests.fuzz.wire_mutations import MUTATIONS, fields, joined, mutated

MESSAGES = 3000


async def test_no_message_finds_a_fault(tmp_path: Path) -> None:
    found = await campaign(tmp_path, seed=20, messages=MESSAGES, socket_share=0.1)
    assert found.faults == []
    assert found.messages == MESSAGES
    seen = {(method, code) for method, _, code in found.calls}
    # Both ways are gone: answers, and refusals.
    assert [method.name for method in METHODS if method.weight >= 0.5 and (method.name, "OK") not in seen] == []
    assert sum(code == "INVALID_ARGUMENT" for _, code in seen) >= len(METHODS) - 2


async def test_http2_that_is_none_hurts_nobody(tmp_path: Path) -> None:
    attacks = await attack_all(tmp_path)
    assert [attack.name for attack in attacks] == [send.__name__ for send in ATTACKS]
    assert {attack.name: attack.faults for attack in attacks if attack.faults} == {}


@given(st.sampled_from(METHODS), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_messages_of_edges_can_be_sent_and_read(method: Method, chance: random.Random) -> None:
    """What the campaign means to be decodable is: values are at their edges, and none beyond."""
    for sound in method.sound:
        for message in (built(chance, sound.DESCRIPTOR), disturbed(chance, sound)):
            encoded = message.SerializeToString(deterministic=True)  # maps have no order of their own
            assert type(message).FromString(encoded).SerializeToString(deterministic=True) == encoded
            assert joined(fields(encoded)) == encoded


def test_most_changed_bytes_are_no_messages_of_the_type() -> None:
    """The mutations reach the parser's own refusals as well as the handlers."""
    chance = random.Random(1)
    refused = read = 0
    for method in METHODS:
        for sound in method.sound:
            for _ in range(60):
                try:
                    type(sound).FromString(mutated(chance, sound.SerializeToString()))
                    read += 1
                except DecodeError:
                    refused += 1
    assert refused > 500
    assert read > 500


async def test_every_mutation_by_itself(tmp_path: Path) -> None:
    chance = random.Random(2)
    write_models(tmp_path)
    async with handlers(tmp_path) as target:
        for mutation in MUTATIONS:
            for method in METHODS[:4]:
                for sound in method.sound:
                    attempt = Attempt(method, [mutation(chance, sound.SerializeToString())], "bytes")
                    ending = await call_handler(target, attempt)
                    assert ending.raised is None, mutation.__name__
                    assert fault(ending.code, ending.details) is None, mutation.__name__
        assert await target.idle_faults() == []
