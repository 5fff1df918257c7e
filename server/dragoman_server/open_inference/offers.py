"""What the protocol's clients can ask of a model: for each task the tensors that go in and come out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dragoman_protos.v1 import bundle_pb2
from dragoman_server.model_host import ModelHost
from dragoman_server.open_inference.tensors import Datatype
from dragoman_server.understanding_host import UnderstandingHost

_Bundle = bundle_pb2.Bundle
TEXT = "text"
TEXT_PAIR = "text_pair"
_ANY = -1
_USUAL_LABELS = 5


@dataclass(frozen=True)
class Tensor:
    """A tensor as ``ModelMetadata`` tells of it."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...] = (_ANY,)


@dataclass(frozen=True)
class Offer:
    """One task of a model. ``inputs`` are needed, ``lists`` are tensors of strings that may come with them."""

    task: bundle_pb2.Bundle.Task.ValueType
    inputs: tuple[Tensor, ...]
    lists: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def gives(self, names: Sequence[str]) -> bool:
        """Whether it gives all these outputs."""
        return set(names) <= {output.name for output in self.outputs}


_TEXT = Tensor(TEXT, Datatype.BYTES)
_DECODED = (
    Tensor("text", Datatype.BYTES),
    Tensor("score", Datatype.FP32),
    Tensor("finish_reason", Datatype.BYTES),
    Tensor("source_tokens", Datatype.UINT32),
    Tensor("target_tokens", Datatype.UINT32),
)
_STRINGS = tuple(Tensor(name, Datatype.BYTES) for name in ("stop", "banned_words", "allowed_words"))


def offers_of(host: ModelHost) -> list[Offer]:
    """The model's tasks, the first is what it does if nobody says what."""
    return [offer for offer in _all(host) if host.does(offer.task)]


def _all(host: ModelHost) -> Iterator[Offer]:
    yield Offer(_Bundle.TASK_TRANSLATE, (_TEXT,), _STRINGS, _DECODED)
    yield Offer(_Bundle.TASK_GENERATE, (_TEXT,), _STRINGS, _DECODED)
    pair = (Tensor(TEXT_PAIR, Datatype.BYTES),) if isinstance(host, UnderstandingHost) and host.pairs else ()
    labels = (Tensor("label", Datatype.BYTES, (_ANY, _ANY)), Tensor("probability", Datatype.FP32, (_ANY, _ANY)))
    threshold = (
        (Tensor("out_of_scope", Datatype.BOOL),) if host.bundle.classifier.HasField("out_of_scope_threshold") else ()
    )
    yield Offer(_Bundle.TASK_CLASSIFY, (_TEXT, *pair), (), (*labels, *threshold))
    yield Offer(_Bundle.TASK_TAG, (_TEXT,), (), (Tensor("spans", Datatype.BYTES),))
    d_model = host.bundle.dimensions.d_model
    yield Offer(_Bundle.TASK_EMBED, (_TEXT,), (), (Tensor("embedding", Datatype.FP32, (_ANY, d_model)),))
    yield Offer(_Bundle.TASK_FILL_MASK, (_TEXT,), (), (Tensor("masks", Datatype.BYTES),))


def labels_of(host: ModelHost, top_k: int) -> int:
    """How many labels a text gets."""
    return min(top_k or _USUAL_LABELS, len(host.bundle.classifier.labels))
