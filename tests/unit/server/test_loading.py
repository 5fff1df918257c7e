from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server.announcement import announcement
from dragoman_server.errors import NotFound
from dragoman_server.loading import Loaded, LoadingError, chosen_versions, load, newest_versions
from dragoman_server.settings import Settings, SettingsError
from dragoman_server.translation_host import TranslationHost
from tests.unit.server import tiny, tiny_encoder


def write_model(root: Path, name: str, version: int) -> Path:
    path = tiny.write_bundle(root / name / str(version))
    manifest = tiny.read_manifest(path) | {"name": name}
    tiny.write_manifest(path, manifest)
    return path


def settings(root: Path, **others: object) -> Settings:
    values = {"models": root, "precision": "fp32", "lanes": 1, "max_rows": 2} | others
    return Settings(**values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for name, version in (("other", 1), ("tiny", 2), ("tiny", 10)):
        write_model(root, name, version)
    return root


@pytest.fixture(scope="module")
def loaded(repository: Path) -> Iterator[Loaded]:
    result = load(settings(repository, default_model="tiny"))
    yield result
    for host in result.catalogue:
        host.engine.stop(0)


def test_the_newest_version_of_every_model_is_served(repository: Path, loaded: Loaded) -> None:
    assert [(entry.name, entry.version) for entry in newest_versions(repository)] == [("other", 1), ("tiny", 10)]
    assert [(host.name, host.version) for host in loaded.catalogue] == [("other", "1"), ("tiny", "10")]


def test_the_version_policy_says_which_versions_are_served(repository: Path) -> None:
    def chosen(policy: str) -> list[tuple[str, int]]:
        return [(entry.name, entry.version) for entry in chosen_versions(settings(repository, version_policy=policy))]

    assert chosen("latest") == [("other", 1), ("tiny", 10)]
    assert chosen("all") == [("other", 1), ("tiny", 10), ("tiny", 2)]
    assert chosen("tiny=pinned:2") == [("other", 1), ("tiny", 2)]
    with pytest.raises(SettingsError) as raised:
        chosen("pinned:2,absent=all")
    assert [violation.limit for violation in raised.value.violations] == [
        "absent has no such version in the repository",
        "other has no such version in the repository",
    ]


def test_what_does_not_fit_the_memory_is_not_started(repository: Path) -> None:
    with pytest.raises(LoadingError, match=r"not enough memory: .* of weights \+ 1 lane x .* the limit is 1\.0 MiB"):
        load(settings(repository, memory_limit=1))


def test_models_are_found_by_name_and_the_default_by_none(loaded: Loaded) -> None:
    assert loaded.catalogue.resolve("other").name == "other"
    assert loaded.catalogue.resolve("").name == "tiny"
    with pytest.raises(NotFound, match="served are other, tiny"):
        loaded.catalogue.resolve("absent")


def test_a_host_knows_its_bundle_and_its_limits(loaded: Loaded) -> None:
    host = loaded.catalogue.find("tiny", TranslationHost, Bundle.TASK_TRANSLATE)
    summary = host.summary(default=True)
    assert (summary.precision, summary.provider, summary.lanes, summary.max_rows) == (
        "fp32",
        "CPUExecutionProvider",
        1,
        2,
    )
    assert host.default_max_length == 20  # of generation.json
    assert host.longest_text >= tiny.SOURCE_TOKENS - 2


def test_every_direction_was_translated_once(loaded: Loaded) -> None:
    for name, version in (("tiny", "10"), ("other", "1")):
        firsts = loaded.first_answers[name, version]
        assert [first.label for first in firsts] == ["de -> en", "en -> de"]


def test_the_announcement_names_the_models_and_steers_no_terminal(loaded: Loaded) -> None:
    shown = announcement("127.0.0.1:1", loaded, 1.25)
    assert "HTTP" not in shown
    over_http = announcement("127.0.0.1:1", loaded, 1.25, "http://127.0.0.1:8080").splitlines()
    assert over_http[1:3] == ["  gRPC      127.0.0.1:1", "  HTTP      http://127.0.0.1:8080"]
    assert "ready after 1.2 s" in shown
    assert "tiny version 10 (default)" in shown
    assert "other version 1:" in shown
    assert all(line.isprintable() for line in shown.splitlines())


def test_the_faults_of_all_bundles_come_at_once(tmp_path: Path) -> None:
    (write_model(tmp_path, "one", 1) / "tokenizer.json").unlink()
    two = write_model(tmp_path, "two", 1)
    tiny.write_manifest(two, tiny.read_manifest(two) | {"name": "three"})
    with pytest.raises(LoadingError) as raised:
        load(settings(tmp_path))
    faults = "\n".join(raised.value.faults)
    assert "tokenizer.json" in faults
    assert "name = 'three': its folder is called 'two'" in faults


def test_default_options_are_held_to_the_limits_of_a_request(tmp_path: Path) -> None:
    model = write_model(tmp_path, "tiny", 1)
    (model / "generation.json").write_text('{"beamSize": 3, "topP": 2}')
    tiny.write_manifest(model, {key: value for key, value in tiny.read_manifest(model).items() if key != "files"})
    with pytest.raises(LoadingError) as raised:
        load(settings(tmp_path))
    assert [fault.split(": ", 1)[1] for fault in raised.value.faults] == [
        "generation.json: options.top_p = 2: more than 0, at most 1",
        "generation.json: options.beam_size = 3: 1 to 2",
        "generation.json: options.beam_size = 3: 1, where any of temperature, top_k, top_p, min_p, typical_p is given",
    ]


def test_a_default_model_that_is_not_there(repository: Path) -> None:
    with pytest.raises(SettingsError, match="default_model = absent: one of other, tiny"):
        load(settings(repository, default_model="absent"))


def test_an_encoder_answers_every_task_once(tmp_path: Path) -> None:
    tiny_encoder.write_bundle(tmp_path / "reader" / "3", "reader")
    result = load(settings(tmp_path))
    (host,) = result.catalogue
    host.engine.stop(0)
    assert (host.name, host.version, host.provider) == ("reader", "3", "CPUExecutionProvider")
    assert [first.label for first in result.first_answers["reader", "3"]] == ["label", "spans", "mask", "vector"]
    shown = announcement("127.0.0.1:1", result, 1.25)
    assert "reader version 3 (default): classify, tag, fill-mask, embed; fp32 on CPUExecutionProvider" in shown
    assert f"vector    Where is the station? -> {tiny.D_MODEL} numbers" in shown


@pytest.mark.parametrize("longest", [3, 5, 9])
def test_a_first_question_fits_the_model(tmp_path: Path, longest: int) -> None:
    tiny_encoder.write_bundle(tmp_path / "reader" / "1", "reader", limits={"sourceTokens": longest})
    result = load(settings(tmp_path))
    (host,) = result.catalogue
    host.engine.stop(0)
    assert len(result.first_answers["reader", "1"]) == 4


def test_serving_needs_no_torch() -> None:
    modules = "commands, lifecycle, loading, engine, pass_engine, runtime, bundle, inspection, doctor"
    check = f"import sys; from dragoman_server import {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_help_loads_no_onnxruntime() -> None:
    check = "import sys; from dragoman_server import commands; sys.exit('onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
