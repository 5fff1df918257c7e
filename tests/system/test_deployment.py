"""Two replicas behind a real HAProxy with TLS, and a real Prometheus that watches them, as docker-compose.yml has them.

Run by ``make test-system``. The programs are Debian's; see ``programs``.
"""

from __future__ import annotations

import json
import re
import signal
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from dragoman import TLS, Client, Health, Unauthenticated, Unavailable
from tests.integration.server_process import SERVE
from tests.system.composed import ROOT, Composed, wait
from tests.system.programs import installed

SENTENCES = [f"Where is the {noun}?" for noun in ("station", "harbour", "library", "bakery", "old bridge", "museum")]
REPLICAS = ("replica-1", "replica-2")


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    made = Composed(tmp_path_factory.mktemp("composed"), installed("haproxy"))
    try:
        for name in REPLICAS:
            made.start_replica(name)
        made.start_balancer()
        for name in REPLICAS:
            made.wait_ready(name)
        made.wait_balanced(*REPLICAS)
        yield made
    finally:
        made.end()


@pytest.fixture
def expected(composed: Composed) -> dict[str, str]:
    """What one client alone is told."""
    with composed.client() as client:
        return {text: client.translate(text, target="de").text for text in SENTENCES}


def answered(composed: Composed, name: str) -> float:
    """Translations that a replica has answered since it started, as it tells the scraper."""
    request = urllib.request.Request(f"http://127.0.0.1:{composed.ports[name][1]}/metrics")
    request.add_header("authorization", f"Bearer {composed.token('metrics')}")
    with urllib.request.urlopen(request, timeout=30) as response:
        text = response.read().decode()
    found = re.search(r'^dragoman_rpcs_total\{code="OK",rpc="Translate"\} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def under_load(composed: Composed, expected: dict[str, str], fault: Callable[[], None]) -> int:
    """Eight callers translate until a while after ``fault``; every answer is right. Returns how many there were."""
    over = threading.Event()
    counts = [0] * 8

    def call(number: int) -> None:
        with composed.client() as client:
            while not over.is_set():
                text = SENTENCES[(number + counts[number]) % len(SENTENCES)]
                assert client.translate(text, target="de").text == expected[text]
                counts[number] += 1

    with ThreadPoolExecutor(len(counts)) as pool:
        callers = [pool.submit(call, number) for number in range(len(counts))]
        try:
            wait(lambda: min(counts) >= 3 or any(caller.done() for caller in callers), "no load")
            fault()
            before = sum(counts)
            wait(lambda: sum(counts) > before + 100 or any(caller.done() for caller in callers), "no load")
        finally:
            over.set()
        for caller in callers:
            caller.result()
    return sum(counts)


def test_calls_are_balanced_and_encrypted(composed: Composed, expected: dict[str, str]) -> None:
    before = [answered(composed, name) for name in REPLICAS]
    texts = SENTENCES * 8
    # One connection, and several calls at a time: of two replicas that have nothing to do, either may be the one.
    with composed.client() as client, ThreadPoolExecutor(8) as pool:
        assert client.health() is Health.SERVING
        translated = pool.map(lambda text: client.translate(text, target="de").text, texts)
        assert list(translated) == [expected[text] for text in texts]
        chunks = list(client.stream_translate(SENTENCES[0], target="de"))
    assert "".join(chunk.final_text for chunk in chunks[-1:]) == expected[SENTENCES[0]]
    after = [answered(composed, name) for name in REPLICAS]
    assert all(now > then for now, then in zip(after, before, strict=True))
    assert sum(after) - sum(before) == len(texts)


def test_who_may_call(composed: Composed) -> None:
    trusted = TLS(ca=composed.secret("authority"))
    with Client(composed.grpc, tls=trusted) as client, pytest.raises(Unauthenticated):
        client.translate("Hello.", target="de")
    with Client(composed.grpc, tls=True) as client, pytest.raises(Unavailable):  # an authority that it does not know
        client.translate("Hello.", target="de", timeout=2)
    with Client(composed.grpc) as client, pytest.raises(Unavailable):  # in the clear
        client.translate("Hello.", target="de", timeout=2)


def test_the_web_is_behind_the_balancer_without_the_metrics(composed: Composed) -> None:
    context = ssl.create_default_context(cafile=str(composed.secret("authority")))
    with urllib.request.urlopen(f"https://{composed.https}/readyz", context=context, timeout=20) as response:
        assert response.read() == b"ready\n"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"https://{composed.https}/metrics", context=context, timeout=20)


def test_the_containers_health_check_is_a_command_that_works(composed: Composed) -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    found = re.search(r"HEALTHCHECK .*?CMD (\[.*?\])", dockerfile, re.DOTALL)
    assert found is not None
    program, *arguments = json.loads(found[1])
    assert program == "dragoman"
    address = f"127.0.0.1:{composed.ports['replica-1'][0]}"
    arguments = [one.replace("127.0.0.1:50051", address) for one in arguments]
    assert subprocess.run([*SERVE[:-1], *arguments], timeout=60, check=False).returncode == 0
    arguments = [one.replace(address, "127.0.0.1:1") for one in arguments]
    assert subprocess.run([*SERVE[:-1], *arguments], timeout=60, check=False, capture_output=True).returncode != 0


def test_the_loads_users_get_through_the_balancer_and_find_every_answer_right(composed: Composed) -> None:
    done = composed.run_load(3)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert re.search(r"Aggregated +\d\d+ +0\(0\.00%\)", done.stdout + done.stderr)


def test_a_replica_that_is_only_slow_is_not_taken_for_gone(composed: Composed, expected: dict[str, str]) -> None:
    before = composed.seen("check_failures_total", "replica-2")
    process = composed.processes["replica-2"]
    process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(2.5)  # two of the balancer's checks
    finally:
        process.send_signal(signal.SIGCONT)
    wait(lambda: composed.seen("check_duration_seconds", "replica-2") > 1, "the balancer has not waited")
    assert composed.seen("check_failures_total", "replica-2") == before
    with composed.client() as client, ThreadPoolExecutor(8) as pool:
        translated = pool.map(lambda text: client.translate(text, target="de").text, SENTENCES)
        assert list(translated) == [expected[text] for text in SENTENCES]


@pytest.mark.parametrize("orderly", [False, True], ids=["killed", "told to end"])
def test_a_replica_goes_under_load_and_no_call_fails(
    composed: Composed, expected: dict[str, str], orderly: bool
) -> None:
    def fault() -> None:
        process = composed.processes["replica-1"]
        if orderly:
            process.terminate()
            assert process.wait(60) == 0
        else:
            process.kill()
            process.wait(30)

    assert under_load(composed, expected, fault) > 100
    composed.start_replica("replica-1")
    composed.wait_ready("replica-1")
    with composed.client() as client:  # and comes back
        wait(
            lambda: bool(client.translate(SENTENCES[0], target="de")) and answered(composed, "replica-1") > 0,
            "not back",
        )


def test_prometheus_reads_both_replicas_with_its_token_and_the_balancer(composed: Composed) -> None:
    address = composed.start_prometheus(installed("prometheus"))

    def found(query: str) -> list[str]:
        asked = urllib.parse.urlencode({"query": query})
        try:
            with urllib.request.urlopen(f"http://{address}/api/v1/query?{asked}", timeout=20) as response:
                result = json.load(response)["data"]["result"]
        except OSError:  # it is starting
            return []
        return [one["value"][1] for one in result]

    wait(lambda: found('sum(up{job="dragoman"})') == ["2"], "Prometheus does not see two replicas")
    wait(lambda: found("count(haproxy_server_status{proxy='grpc',state='UP'} == 1)") == ["2"], "nor does the balancer")
    log = composed.logs("prometheus")
    assert "parse" not in log.lower() or "error" not in log.lower()


def test_no_replica_is_a_typed_error_and_the_next_one_is_found(composed: Composed, expected: dict[str, str]) -> None:
    for name in REPLICAS:
        composed.processes[name].kill()
        composed.processes[name].wait(30)
    with composed.client() as client:
        with pytest.raises(Unavailable):
            client.translate(SENTENCES[0], target="de", timeout=5)
        composed.start_replica("replica-2")
        composed.wait_ready("replica-2")
        end = time.monotonic() + 60
        while True:
            try:
                assert client.translate(SENTENCES[0], target="de").text == expected[SENTENCES[0]]
            except Unavailable:  # the balancer looks every second
                assert time.monotonic() < end
            else:
                break
