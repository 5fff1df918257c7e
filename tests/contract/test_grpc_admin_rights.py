"""Who may change what is served."""

from __future__ import annotations

from pathlib import Path

import pytest

from dragoman import AsyncClient, NotFound, PermissionDenied, Unauthenticated
from dragoman_server.security.tokens import digest, new_token
from dragoman_server.server import DragomanServer
from dragoman_server.settings import Settings, SettingsError
from tests.contract.administering import administered

INFER, ADMIN, BOTH = new_token(), new_token(), new_token()


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.toml"
    entries = {"web": (INFER, '["infer"]'), "ops": (ADMIN, '["admin"]'), "all": (BOTH, '["admin", "infer"]')}
    path.write_text(
        "".join(
            f'[[tokens]]\nname = "{name}"\nsha256 = "{digest(token)}"\npermissions = {permissions}\n'
            for name, (token, permissions) in entries.items()
        )
    )
    return path


async def refused(client: AsyncClient, error: type[Exception], words: str) -> None:
    for change in (client.load_model, client.unload_model):
        with pytest.raises(error, match=words):
            await change("absent")


async def test_switched_off_it_is_closed_to_everybody(tmp_path: Path, tokens: Path) -> None:
    async with administered(tmp_path / "a", "deu-eng@1", admin=False) as served:
        await refused(served.client, PermissionDenied, "the method is closed")
    async with (
        administered(tmp_path / "b", "deu-eng@1", admin=False, tokens=tokens) as served,
        AsyncClient(served.address, token=BOTH) as client,
    ):
        await refused(client, PermissionDenied, "the method is closed")


async def test_a_token_needs_the_permission(tmp_path: Path, tokens: Path) -> None:
    async with administered(tmp_path / "models", "deu-eng@1", tokens=tokens) as served:
        await refused(served.client, Unauthenticated, "authorization")
        async with AsyncClient(served.address, token=INFER) as client:
            await refused(client, PermissionDenied, "the method needs the permission admin")
        async with AsyncClient(served.address, token=ADMIN) as client:
            await refused(client, NotFound, "absent")
            with pytest.raises(PermissionDenied, match="infer"):
                await client.models()


def test_others_than_this_machine_need_tokens(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="admin = true: with tokens, or on a loopback address"):
        DragomanServer(Settings(models=tmp_path, host="0.0.0.0", insecure=True, admin=True))
