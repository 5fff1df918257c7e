"""A model that computes no number for some texts: they fail, and nobody else does."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
from onnx import helper, numpy_helper
from tokenizers import Tokenizer

from dragoman import AsyncClient
from tests.robustness import asks, profiles
from tests.robustness.asks import Translate
from tests.robustness.driving import Manner
from tests.robustness.faults.fault import Fault
from tests.robustness.faults.models import LOAD_SECONDS, RELOADED
from tests.robustness.traffic import Traffic
from tests.robustness.world import MODELS, World, translations

NAME = "poisoned"
_FAILS = frozenset({"INTERNAL"})


class NanLogits(Fault):
    """A decoder whose logits are NaN after one certain token: the row that produces it ends as INTERNAL, alone."""

    name: ClassVar = "nan-logits"
    injects: ClassVar = "a doctored graph that gives NaN after one token, for some of the texts"

    async def inject(self, world: World, rng: random.Random) -> None:
        texts = translations(world.pool, asks.SHORT)
        tokens = await self._tokens(world, texts)
        counts = Counter(token for its in tokens.values() for token in set(its))
        poison = rng.choice(sorted(token for token, count in counts.items() if 3 <= count <= 12))
        bundle = world.repository / NAME / "1"
        poisoned(bundle, poison)
        renamed = [replace(text, model=NAME) for text in texts]

        async def send(traffic: Traffic) -> None:
            async with (
                AsyncClient(world.standing.address, timeout=LOAD_SECONDS) as admin,
                world.channels(world.standing) as (driver,),
            ):
                await admin.load_model(NAME)
                world.history.injected(f"token {poison!r} gives NaN")
                for _ in range(3):
                    async with asyncio.TaskGroup() as group:
                        for text in renamed:
                            sick = poison in tokens[text.key]
                            manner = Manner(may=_FAILS) if sick else Manner()
                            group.create_task(driver.send(text, rng.choice(("call", "stream")), manner))
                await admin.unload_model(NAME)

        try:
            await world.under_load(profiles.DAY, send, share=0.7, errors_allowed=True, resident=RELOADED)
        finally:
            shutil.rmtree(bundle.parent)

    async def _tokens(self, world: World, texts: list[Translate]) -> dict[str, tuple[str, ...]]:
        """What each text becomes, token by token."""
        async with AsyncClient(world.standing.address) as client:
            return {
                text.key: (await client.translate(text.text, target="de", model="deu-eng")).tokens for text in texts
            }


def poisoned(bundle: Path, token: str) -> None:
    """A copy of deu-eng, under another name, whose decoder's logits are NaN when it is fed ``token``."""
    shutil.copytree(MODELS / "deu-eng" / "1", bundle)
    token_id = Tokenizer.from_file(str(bundle / "tokenizer.json")).token_to_id(token)
    path = bundle / "int8" / "decoder.onnx"
    model = onnx.load(str(path), load_external_data=False)
    graph = model.graph
    (last,) = (node for node in graph.node if "logits" in node.output)
    last.output[0] = "healthy_logits"
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(token_id, np.int64), "poison"),
            numpy_helper.from_array(np.array(np.nan, np.float32), "no_number"),
        ]
    )
    nodes = [
        helper.make_node("Equal", ["input_ids", "poison"], ["is_poison"]),  # (rows, 1)
        helper.make_node("Where", ["is_poison", "no_number", "healthy_logits"], ["logits"]),  # (rows, vocabulary)
    ]
    place = list(graph.node).index(last) + 1
    for offset, node in enumerate(nodes):
        graph.node.insert(place + offset, node)
    path.write_bytes(model.SerializeToString())
    manifest: dict[str, Any] = json.loads((bundle / "bundle.json").read_text())
    manifest["name"] = NAME
    for file in manifest["files"]:
        if file["path"] == "int8/decoder.onnx":
            content = path.read_bytes()
            file |= {"bytes": str(len(content)), "sha256": hashlib.sha256(content).hexdigest()}
    (bundle / "bundle.json").write_text(json.dumps(manifest))
