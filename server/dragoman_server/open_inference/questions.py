"""An inference request as far as it can be read without looking at its texts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from dragoman_protos.open_inference import open_inference_pb2
from dragoman_server.catalogue import Catalogue
from dragoman_server.errors import InvalidArgument, Violation
from dragoman_server.model_host import ModelHost
from dragoman_server.open_inference.offers import TEXT, Offer, offers_of
from dragoman_server.open_inference.tensors import Strings, strings_of
from dragoman_server.service.texts import shortened
from dragoman_server.service.validation import version_violations

MOST_TEXTS = 256
_MOST_STRINGS = 1024
"""Elements of any tensor; what a list may hold, the options' own limits say."""
_MOST_ID_CHARACTERS = 256
_TIMEOUT = "timeout"
_EMPTY_FINAL = "triton_enable_empty_final_response"
_MOST_MICROSECONDS = 86_400_000_000


@dataclass(frozen=True)
class Question:
    """Which model is asked what, about which texts."""

    host: ModelHost
    reference: str
    """NAME@VERSION."""
    offer: Offer
    texts: list[str]
    pairs: list[str]
    """The second texts, for a model of pairs; else empty."""
    lists: dict[str, list[str]]
    """Strings of the options."""
    parameters: Mapping[str, open_inference_pb2.InferParameter]
    wanted: frozenset[str]
    """Names of the outputs to send."""
    shape: tuple[int, ...]
    """Of an output with one element for each text, as the texts' own."""
    timeout: float | None
    """Seconds."""

    def until(self, deadline: float | None) -> float | None:
        """The call's deadline, or the question's own if that is earlier; on the monotonic clock."""
        if self.timeout is None:
            return deadline
        own = time.monotonic() + self.timeout
        return own if deadline is None else min(own, deadline)

    def response(self, request_id: str) -> open_inference_pb2.ModelInferResponse:
        """An answer without tensors."""
        return open_inference_pb2.ModelInferResponse(
            model_name=self.host.name, model_version=self.host.version, id=request_id
        )


def host_of(catalogue: Catalogue, name: str, version: str, field: str = "model_name") -> ModelHost:
    """The model; raises InvalidArgument for names that no model can have, NotFound for one that is not served."""
    # A version without a name would be one of whichever model is the default.
    if (name or version) and (violations := version_violations(name, version)):
        named = {"name": field, "version": field.replace("name", "version")}
        raise InvalidArgument([Violation(named.get(v.field, v.field), v.value, v.limit) for v in violations])
    return catalogue.resolve(f"{name}@{version}" if version else name)


def read(request: open_inference_pb2.ModelInferRequest, catalogue: Catalogue) -> Question:
    """Raises InvalidArgument with every fault of names, tensors and timeout; NotFound for a model not served."""
    host = host_of(catalogue, request.model_name, request.model_version)
    tensors, violations = strings_of(request, _MOST_STRINGS)
    if len(request.id) > _MOST_ID_CHARACTERS:
        violations.append(Violation("id", f"{len(request.id)} characters", f"at most {_MOST_ID_CHARACTERS}"))
    offer, faults = _offer(request, host)
    violations += faults
    texts = Strings([], ())
    pairs: list[str] = []
    if not violations:
        texts = tensors.get(TEXT, texts)
        violations += _input_violations(offer, tensors)
        pairs = next((tensors[one.name].values for one in offer.inputs if one.name != TEXT and one.name in tensors), [])
    parameters = dict(request.parameters)
    parameters.pop(_EMPTY_FINAL, None)  # the last answer says so by itself
    timeout, faults = _timeout(parameters.pop(_TIMEOUT, None))
    violations += faults
    if violations:
        raise InvalidArgument(violations)
    return Question(
        host,
        f"{host.name}@{host.version}",
        offer,
        texts.values,
        pairs,
        {one.name: tensors[one.name].values for one in offer.lists if one.name in tensors},
        parameters,
        frozenset(output.name for output in request.outputs) or frozenset(one.name for one in offer.outputs),
        texts.shape,
        timeout,
    )


def _offer(request: open_inference_pb2.ModelInferRequest, host: ModelHost) -> tuple[Offer, list[Violation]]:
    """The task whose outputs are asked for."""
    offers = offers_of(host)
    names = [output.name for output in request.outputs]
    found = next((offer for offer in offers if offer.gives(names)), None)
    violations = []
    if found is None:
        groups = "; ".join(", ".join(one.name for one in offer.outputs) for offer in offers)
        violations.append(Violation("outputs", shortened(", ".join(names)), f"of one task: {groups}"))
    for number, output in enumerate(request.outputs):
        if output.parameters:
            count = f"{len(output.parameters)} of them"
            violations.append(Violation(f"outputs[{number}].parameters", count, "none is known"))
    return found or offers[0], violations


def _input_violations(offer: Offer, tensors: Mapping[str, Strings]) -> list[Violation]:
    known = [one.name for one in (*offer.inputs, *offer.lists)]
    needed = [one.name for one in offer.inputs]
    violations = [
        Violation("inputs", shortened(name), f"one of {', '.join(known)}") for name in tensors if name not in known
    ]
    violations += [
        Violation("inputs", f"no {name}", f"all of {', '.join(needed)}") for name in needed if name not in tensors
    ]
    if violations:
        return violations
    count = len(tensors[TEXT].values)
    if not 1 <= count <= MOST_TEXTS:
        violations.append(Violation(f"inputs.{TEXT}", f"{count} texts", f"1 to {MOST_TEXTS}"))
    for name in needed:
        shape = tensors[name].shape
        if shape[1:] not in {(), (1,)}:
            violations.append(Violation(f"inputs.{name}.shape", str(list(shape)), "[n] or [n, 1]"))
        elif shape != tensors[TEXT].shape:
            violations.append(Violation(f"inputs.{name}.shape", str(list(shape)), f"that of {TEXT}"))
    return violations


def _timeout(parameter: open_inference_pb2.InferParameter | None) -> tuple[float | None, list[Violation]]:
    if parameter is None:
        return None, []
    kind = parameter.WhichOneof("parameter_choice")
    if kind in {"int64_param", "uint64_param"}:
        value: int = getattr(parameter, kind)
        if 0 < value <= _MOST_MICROSECONDS:
            return value / 1e6, []
    sent = "nothing" if kind is None else shortened(str(getattr(parameter, kind)))
    limit = f"int64_param or uint64_param: microseconds, 1 to {_MOST_MICROSECONDS}"
    return None, [Violation(f"parameters.{_TIMEOUT}", sent, limit)]
