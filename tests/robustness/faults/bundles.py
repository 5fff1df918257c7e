"""Versions that must not be served: damaged, incomplete, reaching outside, or copied only in part."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any, ClassVar

from dragoman import AsyncClient, FailedPrecondition
from tests.robustness import profiles
from tests.robustness.faults.fault import Fault
from tests.robustness.faults.models import LOAD_SECONDS, RELOADED, version
from tests.robustness.traffic import Traffic
from tests.robustness.world import MODELS, World, copy_of_models

_APPEARS_SECONDS = 60.0


class BadVersion(Fault):
    """A new version that is not sound: refused with reasons, and the old one goes on serving."""

    quick: ClassVar = True

    def spoil(self, bundle: Path, rng: random.Random) -> str:
        """Do it to the bundle; what was done."""
        raise NotImplementedError

    async def inject(self, world: World, rng: random.Random) -> None:
        async def load(traffic: Traffic) -> None:
            async with AsyncClient(world.standing.address, timeout=LOAD_SECONDS) as client:
                for share in (0.2, 0.5, 0.8):
                    await traffic.reached(share)
                    with version(world.repository, "deu-eng", 2) as bundle:
                        world.history.injected(self.spoil(bundle, rng))
                        try:
                            await client.load_model("deu-eng", version=2)
                        except FailedPrecondition as error:
                            outside = str(world.repository)
                            world.history.expect(outside not in str(error), f"told where the repository is: {error}")
                        else:
                            world.history.expect(False, f"{self.name}: version 2 was loaded")

        # An operator is meant to see in the log what was refused.
        await world.under_load(profiles.DAY, load, errors_allowed=True, resident=RELOADED)
        versions = {e.version for e in world.history.ends() if e.request.startswith(("short", "wide", "text"))}
        world.history.expect(versions <= {"1"}, f"{self.name}: answered by versions {sorted(versions)}")


class CorruptVersion(BadVersion):
    """One byte is another."""

    name: ClassVar = "corrupt-version"
    injects: ClassVar = "LoadModel of a version with one flipped byte"

    def spoil(self, bundle: Path, rng: random.Random) -> str:
        manifest = json.loads((bundle / "bundle.json").read_text())
        path = bundle / rng.choice([file["path"] for file in manifest["files"]])
        content = bytearray(path.read_bytes())
        place = rng.randrange(len(content))
        content[place] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        return f"byte {place} of {path.name} was changed"


class MissingExternalData(BadVersion):
    """The weights that lie beside the graphs are not there."""

    name: ClassVar = "missing-external-data"
    injects: ClassVar = "LoadModel of a version without its external weights"

    def spoil(self, bundle: Path, rng: random.Random) -> str:
        (bundle / "int8" / "embedding.bin").unlink()
        return "embedding.bin was removed"


class PathLeavesBundle(BadVersion):
    """A manifest, or a link, that would make the server read what is not of the bundle."""

    name: ClassVar = "path-leaves-bundle"
    injects: ClassVar = "LoadModel of a version whose files lie outside: by ../, absolute, by a link"

    def spoil(self, bundle: Path, rng: random.Random) -> str:
        inside = "int8/encoder.onnx"
        if rng.random() < 1 / 3:
            (bundle / inside).unlink()
            (bundle / inside).symlink_to(bundle.parent / "1" / inside)
            return "a link out of the bundle"
        path = f"../1/{inside}" if rng.random() < 0.5 else str(MODELS / "deu-eng" / "1" / inside)
        manifest: dict[str, Any] = json.loads((bundle / "bundle.json").read_text())
        manifest["precisions"]["int8"]["encoder"] = path
        for file in manifest["files"]:
            file["path"] = path if file["path"] == inside else file["path"]
        (bundle / "bundle.json").write_text(json.dumps(manifest))
        return f"a path out of the bundle: {'absolute' if path.startswith('/') else path}"


class DiskFull(Fault):
    """A copy that ends for lack of space, straight into its place: not served until it is whole."""

    name: ClassVar = "disk-full"
    injects: ClassVar = "a new version's copy cut off by a file size limit, in a repository that is followed"

    async def inject(self, world: World, rng: random.Random) -> None:
        repository = copy_of_models(world.folder / "followed")
        polls = ("--repository-mode", "poll", "--poll-seconds", "0.2")
        async with (
            world.server("following", *polls, repository=repository) as server,
            world.channels(server, 2) as drivers,
            AsyncClient(server.address) as client,
        ):
            await world.warm_up(*drivers)
            async with world.watched(server, resident=RELOADED, errors_allowed=True):
                traffic = world.traffic(drivers, profiles.DAY)
                async with asyncio.TaskGroup() as group:
                    group.create_task(traffic.run())
                    await traffic.reached(0.2)
                    status = await self._copy(repository, most_blocks=rng.randint(100, 4000))
                    world.history.expect(status != 0, "the copy did not end for lack of space")
                    world.history.injected("half of version 2 was copied")
                    if (repository / "deu-eng" / "2" / "bundle.json").exists():
                        await self._listed(world, client, "failed")
                    await traffic.reached(0.6)
                    world.history.expect(await self._copy(repository) == 0, "the copy failed")
                    await self._listed(world, client, "ready")

    async def _copy(self, repository: Path, most_blocks: int | None = None) -> int:
        limit = "" if most_blocks is None else f"ulimit -f {most_blocks}; "
        shell = await asyncio.create_subprocess_exec(
            *("sh", "-c", f"{limit}mkdir -p 2 && cp 1/bundle.json 2/ && cp -r 1/. 2/"),
            cwd=repository / "deu-eng",
            stderr=asyncio.subprocess.DEVNULL,
        )
        return await shell.wait()

    async def _listed(self, world: World, client: AsyncClient, state: str) -> None:
        """Wait until version 2 is in that state."""
        end = asyncio.get_running_loop().time() + _APPEARS_SECONDS
        while ("deu-eng", "2", state) not in [(m.name, m.version, m.state) for m in await client.models()]:
            if asyncio.get_running_loop().time() > end:
                listed = [(m.name, m.version, m.state) for m in await client.models()]
                world.history.expect(False, f"version 2 is not {state}: {listed}")
                return
            await asyncio.sleep(0.05)
