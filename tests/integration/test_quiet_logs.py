"""What a real server logs of everything that it is asked, at its most talkative, holds no text and no token."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from dragoman import Client, DragomanError, Retry
from dragoman_server.security.tokens import digest, new_token
from tests.integration.server_process import ServerProcess

MODELS = Path(__file__).parents[2] / "models"
SECRET = "Heliotrope"
TEXT = f"The {SECRET} waits at the station."
TOKEN = new_token()


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.toml"
    path.write_text(f'[[tokens]]\nname = "web"\nsha256 = "{digest(TOKEN)}"\npermissions = ["infer", "admin"]\n')
    return path


def ask_for_everything(client: Client) -> None:
    client.translate(TEXT, target="de")
    client.translate(TEXT, target="de", beam_size=2)
    list(client.translate_many([TEXT] * 3, target="de"))
    list(client.stream_translate(TEXT, target="de"))
    list(client.generate(TEXT, model="shakespeare", max_new_tokens=3))
    client.score(TEXT, f"Der {SECRET}.", target="de")
    client.classify(TEXT)
    client.fill_mask(f"{SECRET} [MASK]")
    client.embed([TEXT])
    client.explain(TEXT, target="de")


def test_no_log_of_a_real_server_holds_a_text_or_a_token(tokens: Path) -> None:
    options = ("--lanes", "1", "--max-rows", "8", "--tokens", str(tokens), "--http-port", "0", "--log-level", "debug")
    with ServerProcess(MODELS, *options, "--admin") as server:
        address = server.wait_ready()
        with Client(address, token=TOKEN, retry=Retry(attempts=1)) as client:
            ask_for_everything(client)
            for faulty in (
                lambda: client.translate(TEXT, target=SECRET),
                lambda: client.translate(TEXT, target="de", model=SECRET.lower()),
                lambda: client.translate(TEXT * 5000, target="de"),
                lambda: client.translate(TEXT, target="de", timeout=0.001),
                lambda: client.load_model(SECRET.lower()),
            ):
                with pytest.raises(DragomanError):
                    faulty()
        with Client(address, token=f"{TOKEN}x", retry=Retry(attempts=1)) as stranger, pytest.raises(DragomanError):
            stranger.translate(TEXT, target="de")
        headers = {"authorization": f"Bearer {TOKEN}"}
        with httpx.Client(base_url=server.http_url, headers=headers, timeout=60.0) as http:
            asked = {"text": TEXT, "target_language": "de"}
            assert http.post("/v1/translate", json=asked).status_code == 200
            assert http.post("/v1/translate", json={**asked, SECRET: 1}).status_code == 400
            assert http.post(f"/v1/{SECRET}?{TOKEN}", content=TEXT).status_code == 404
            assert http.post("/v1/translate", content=TEXT.encode()).status_code == 415
        server.process.terminate()
        assert server.end() == 0
    lines = [json.loads(line) for line in server.logs]
    calls = [line for line in lines if line["event"] == "call"]
    assert {line["rpc"] for line in calls} >= {"Translate", "TranslateMany", "Generate", "Explain", "LoadModel"}
    assert {line["code"] for line in calls} >= {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNAUTHENTICATED"}
    for line in server.logs:
        assert TOKEN not in line
        if "a caller changes what is served" not in line:  # names of models are logged, as they are asked for
            assert SECRET.lower() not in line.lower(), line
