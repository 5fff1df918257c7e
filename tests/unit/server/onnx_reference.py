"""The tiny graphs as slow decoding asks them: one hypothesis at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime as ort

from dragoman_server.bundle import LoadedBundle
from dragoman_server.packing import pack
from tests.unit.server import tiny
from tests.unit.server.toy_model import Floats, log_softmax


class OnnxReference:
    """The tiny graphs, one hypothesis at a time, with caches that are passed in and out and never shared."""

    def __init__(self, bundle: LoadedBundle, source: Sequence[int]) -> None:
        encoder, self._decoder = (
            ort.InferenceSession(path, disabled_optimizers=["SkipLayerNormFusion"])
            for path in (bundle.encoder, bundle.decoder)
        )
        cross, last = encoder.run(["cross", "cross_last"], pack([source]).feeds)
        kinds = [f"{kind}_{layer}" for layer in range(tiny.LAYERS) for kind in ("key", "value")]
        self._encoded = {f"cross_{kind}": cache[None] for kind, cache in zip(kinds, cross, strict=True)}
        self._encoded |= {f"cross_last_{kind}": one for kind, one in zip(kinds, last, strict=True)}
        self._source_length = len(source)
        empty = np.zeros((1, tiny.HEADS, tiny.TARGET_TOKENS, tiny.HEAD_DIM), np.float32)
        inputs = [port.name for port in self._decoder.get_inputs() if port.name.startswith("past_")]
        self._known: dict[tuple[int, ...], tuple[Floats, dict[str, Floats]]] = {}
        self._known[()] = self._step(tiny.BOS, 0, dict.fromkeys(inputs, empty))

    def __call__(self, history: tuple[int, ...]) -> Floats:
        if history not in self._known:
            self(history[:-1])
            self._known[history] = self._step(history[-1], len(history), self._known[history[:-1]][1])
        return self._known[history][0]

    def _step(self, token: int, position: int, caches: dict[str, Floats]) -> tuple[Floats, dict[str, Floats]]:
        feed = {
            "input_ids": np.array([[token]]),
            "lengths": np.array([position], np.int32),
            "total_length": np.array(position + 1, np.int32),
            "cross_lengths": np.array([self._source_length - 1], np.int32),
            "cross_total": np.array(self._source_length, np.int32),
        }
        outputs = [output.name for output in self._decoder.get_outputs()]
        result = dict(zip(outputs, self._decoder.run(outputs, feed | caches | self._encoded), strict=True))
        grown = {name: result[name.replace("past", "present")] for name in caches}
        return log_softmax(result["logits"][0]), grown
