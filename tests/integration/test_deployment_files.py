"""Compose file, Dockerfiles and Helm chart, as far as they can be checked where no engine runs them."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "dragoman"
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILES = sorted((ROOT / "deploy").rglob("Dockerfile"))
SCRIPTS = Path(sysconfig.get_path("scripts"))
SAFE = {"tls.secretName": "tls", "tokens.secretName": "tokens"}
COMPOSED: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, check=False)


def rendered(**values: object) -> list[dict[str, Any]]:
    """What the chart makes of these values: ``a__b`` is ``a.b``."""
    sets = {**SAFE, **{name.replace("__", "."): value for name, value in values.items()}}
    flags = [f"--set={name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in sets.items()]
    made = run(SCRIPTS / "helm", "template", "here", CHART, *flags)
    assert made.returncode == 0, made.stderr
    return [one for one in yaml.safe_load_all(made.stdout) if one]


def kind(manifests: list[dict[str, Any]], name: str) -> dict[str, Any]:
    (found,) = (one for one in manifests if one["kind"] == name)
    return found


def test_the_compose_file_follows_the_specification() -> None:
    found = run(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)
    assert found.returncode == 0, found.stdout


def test_dockerfiles_have_no_faults() -> None:
    assert DOCKERFILES
    found = run(SCRIPTS / "hadolint", *DOCKERFILES)
    assert found.returncode == 0, found.stdout


def test_every_image_and_base_has_a_version() -> None:
    images = [service["image"] for service in COMPOSED["services"].values()]
    for dockerfile in DOCKERFILES:
        images += re.findall(r"^ARG \w+=(\S+:\S+)$", dockerfile.read_text(), re.MULTILINE)
    assert len(images) > len(COMPOSED["services"])
    for image in images:
        assert re.search(r":[v0-9][\w.-]*\d[\w.-]*(@sha256:[0-9a-f]{64})?$", image), image


@pytest.mark.parametrize("name", COMPOSED["services"])
def test_containers_can_do_little(name: str) -> None:
    service = COMPOSED["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not service["user"].startswith(("0", "root"))


def test_what_the_compose_file_names_is_there() -> None:
    made_by = (ROOT / "deploy" / "prepare.sh").read_text()
    secrets = {one["file"] for one in COMPOSED["secrets"].values()}
    for secret in secrets:
        stem = Path(secret).stem
        assert Path(secret).name in made_by or f"token {stem} " in made_by, secret
    for service in COMPOSED["services"].values():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file()
            stages = re.findall(r" AS (\S+)$", (ROOT / service["build"]["dockerfile"]).read_text(), re.MULTILINE)
            assert service["build"].get("target", "server") in [*stages, "server"]
        for volume in service.get("volumes", []):
            if volume.startswith("."):
                assert (ROOT / volume.partition(":")[0]).exists(), volume
        assert set(service.get("secrets", [])) <= COMPOSED["secrets"].keys()


def test_what_the_image_needs_reaches_the_build() -> None:
    """Each COPY from the context is let through by .dockerignore."""
    let_through = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for dockerfile in DOCKERFILES:
        for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile.read_text(), re.MULTILINE):
            for source in line.split()[:-1]:
                path = source.rstrip("/")
                assert (ROOT / path).exists(), path
                assert any(path == one or path.startswith(f"{one}/") for one in let_through), path


def test_the_chart_passes_helms_linter() -> None:
    found = run(SCRIPTS / "helm", "lint", "--strict", CHART, *(f"--set={name}={value}" for name, value in SAFE.items()))
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "tls.secretName is empty"),
        ({"tls.secretName": "tls"}, "tokens.secretName is empty"),
        ({**SAFE, "replicas": 0}, "replicas"),
        ({**SAFE, "settings.host": "0.0.0.0"}, "host"),
        ({**SAFE, "nothing": 1}, "nothing"),
        ({**SAFE, "image.tag": "latest"}, "tag"),
    ],
)
def test_the_chart_refuses(values: dict[str, object], said: str) -> None:
    flags = [f"--set={name}={value}" for name, value in values.items()]
    made = run(SCRIPTS / "helm", "template", "here", CHART, *flags)
    assert made.returncode != 0
    assert said in made.stderr


def test_all_that_the_chart_makes_is_what_kubernetes_knows(tmp_path: Path) -> None:
    switches = ["autoscaling__enabled", "networkPolicy__enabled", "serviceMonitor__enabled", "insecure"]
    for on in itertools.chain([()], itertools.combinations(switches, 1), [switches]):
        manifests = rendered(**dict.fromkeys(on, True), settings__max_rows=64)
        known = [one for one in manifests if one["kind"] != "ServiceMonitor"]  # of the Prometheus operator
        path = tmp_path / "manifests.yaml"
        path.write_text(yaml.safe_dump_all(known))
        found = run(SCRIPTS / "kubernetes-validate", "--strict", path)
        assert found.returncode == 0, found.stdout + found.stderr
        kinds = sorted(one["kind"] for one in manifests)
        assert ("HorizontalPodAutoscaler" in kinds) == ("autoscaling__enabled" in on)
        assert ("replicas" in kind(manifests, "Deployment")["spec"]) == ("autoscaling__enabled" not in on)


def test_pods_are_probed_by_grpc_and_by_https_where_there_is_tls() -> None:
    def container(**values: object) -> dict[str, Any]:
        found: dict[str, Any] = kind(rendered(**values), "Deployment")["spec"]["template"]["spec"]["containers"][0]
        return found

    plain = container(insecure=True, tls__secretName="")
    assert plain["readinessProbe"]["grpc"] == {"port": 50051}
    assert plain["startupProbe"]["grpc"] == {"port": 50051}
    assert container()["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http", "scheme": "HTTPS"}


def test_the_server_starts_with_the_settings_that_the_chart_gives() -> None:
    from dragoman_server.settings import Settings  # noqa: PLC0415

    pod = kind(rendered(settings__max_rows=64, settings__precision="int8"), "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    environment = {one["name"]: one["value"] for one in container["env"]}
    given = {name.removeprefix("DRAGOMAN_").lower(): value for name, value in environment.items()}
    assert Settings.model_validate(given).max_rows == 64
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    for name in ("tls_certificate", "tls_key", "tokens"):
        assert str(Path(given[name]).parent) in mounted
    assert pod["terminationGracePeriodSeconds"] > float(given["grace"]) + 5
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
