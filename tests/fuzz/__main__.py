"""``python -m tests.fuzz``: messages that are none, and frames that are none, at a server over tiny models."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.fuzz.attacking import attack_all
from tests.fuzz.campaign import campaign
from tests.fuzz.report import publish, show


def main() -> int:
    """Run the campaign and print its table; 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the same seed sends the same messages")
    parser.add_argument("--messages", type=int, default=20_000, help="calls in all")
    parser.add_argument("--socket-share", type=float, default=0.05, help="share of them over a socket: 0 to 1")
    parser.add_argument("--output", type=Path, help="folder for fuzzing.md and fuzzing.json; default: nowhere")
    given = parser.parse_args()

    def progress(done: int) -> None:
        print(f"\r{done} of {given.messages}", end="", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(
            campaign(
                Path(folder) / "models",
                seed=given.seed,
                messages=given.messages,
                socket_share=given.socket_share,
                progress=progress,
            )
        )
        print(file=sys.stderr)
        attacks = asyncio.run(attack_all(Path(folder) / "attacked"))
    show(found, attacks)
    if given.output is not None:
        publish(given.output, found, attacks, seed=given.seed)
    return 1 if found.faults or any(attack.faults for attack in attacks) else 0


if __name__ == "__main__":
    sys.exit(main())
