from __future__ import annotations

from pathlib import Path

import pytest

from dragoman_server import machine
from dragoman_server.settings import Settings, SettingsError, load_settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"DRAGOMAN_{name.upper()}", raising=False)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "dragoman.toml"
    path.write_text('port = 1001\nmax_rows = 11\nlog_level = "debug"\nmodels = "from-file"\n')
    return path


def test_defaults() -> None:
    settings = load_settings({})
    assert (settings.host, settings.port, settings.device, settings.precision) == ("127.0.0.1", 50051, "auto", "int8")
    assert settings.lanes == machine.usable_cores()
    assert settings.max_message_bytes == 4 << 20
    assert settings.ageing == 1.0
    assert settings.models is None
    assert not settings.reflection


def test_flag_outranks_environment_outranks_file_outranks_default(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRAGOMAN_PORT", "2002")
    monkeypatch.setenv("DRAGOMAN_MAX_ROWS", "22")
    settings = load_settings({"port": 3003, "max_rows": None, "grace": None}, config)
    assert settings.port == 3003
    assert settings.max_rows == 22
    assert settings.log_level == "debug"
    assert settings.models == Path("from-file")
    assert settings.grace == 30


def test_an_empty_variable_counts_as_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAGOMAN_PORT", "")
    assert load_settings({}).port == 50051


def test_all_faults_come_at_once_with_where_they_stand(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text('prot = 1\nlanes = 0\nageing = 0\ndefault_model = "../x"\n')
    monkeypatch.setenv("DRAGOMAN_GRACE", "soon")
    with pytest.raises(SettingsError) as raised:
        load_settings({"port": 70000, "host": "no host", "device": "tpu"}, config)
    faults = {violation.field: violation for violation in raised.value.violations}
    assert set(faults) == {
        f"prot in {config}",
        f"lanes in {config}",
        f"ageing in {config}",
        f"default_model in {config}",
        "DRAGOMAN_GRACE",
        "--port",
        "--host",
        "--device",
    }
    assert "unknown key; known are models" in faults[f"prot in {config}"].limit
    assert faults["--port"].value == "70000"
    assert "65535" in faults["--port"].limit
    assert faults["DRAGOMAN_GRACE"].value == "'soon'"


def test_long_values_are_shortened() -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings({"device": "x" * 1000})
    assert len(raised.value.violations[0].value) <= 80


@pytest.mark.parametrize("content", [None, b"port = = 1", b"\xff"])
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"--config = .*broken\.toml"):
        load_settings({}, path)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::1", "localhost", "node-1.example.org"])
def test_hosts(host: str) -> None:
    assert load_settings({"host": host}).host == host


@pytest.mark.parametrize(("quota", "cores"), [("max 100000", None), ("50000 100000", 1), ("junk", None)])
def test_usable_cores_keep_to_the_containers_quota(tmp_path: Path, quota: str, cores: int | None) -> None:
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert machine.usable_cores(tmp_path) == (cores or machine.usable_cores(tmp_path / "nowhere"))


def test_version_policies_are_read_when_they_are_set() -> None:
    assert load_settings({"version_policy": "all,deu-eng=pinned:3"}).version_policy == "all,deu-eng=pinned:3"
    with pytest.raises(SettingsError, match=r"--version-policy = 'newest': latest, all or pinned:N"):
        load_settings({"version_policy": "newest"})
