"""What a server says of its models, as values."""

from __future__ import annotations

from dragoman import Model, models_wire
from dragoman_protos.v1 import bundle_pb2, models_pb2


def test_models_speak_in_words() -> None:
    message = models_pb2.Model(
        name="deu-eng",
        version="1",
        family=bundle_pb2.Bundle.FAMILY_ENCODER_DECODER,
        tasks=[bundle_pb2.Bundle.TASK_TRANSLATE],
        languages=["de", "en"],
        precision="int8",
        provider="CPUExecutionProvider",
        lanes=2,
        max_rows=32,
        default=True,
    )
    expected = Model(
        "deu-eng", "1", "encoder-decoder", ("translate",), ("de", "en"), "int8", "CPUExecutionProvider", 2, 32, True
    )
    assert models_wire.models(models_pb2.ListModelsResponse(models=[message]), ()) == (expected,)
    bundle = bundle_pb2.Bundle(name="deu-eng", format_version=1)
    details = models_wire.model_details(models_pb2.GetModelResponse(model=message, bundle=bundle), ())
    assert (details.family, details.bundle) == ("encoder-decoder", bundle)
    assert isinstance(hash(details), int)


def test_a_family_of_a_newer_server_is_unspecified() -> None:
    message = models_pb2.Model.FromString(b"\x18\x63")  # family = 99
    assert models_wire.models(models_pb2.ListModelsResponse(models=[message]), ())[0].family == "unspecified"
