"""``python -m tests.audit``: pip-audit over what a server is installed with, where an index knows of weaknesses.

A mirror may answer for packages and know nothing of their versions; pip-audit then finds nothing, and says so as if it
had looked. Here nothing is called audited that was not.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

LOCKED = Path(__file__).parents[1] / "requirements" / "server.txt"
INDEX = "https://pypi.org"
_SECONDS = 10
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def pins(locked: Path) -> dict[str, str]:
    """Versions by package."""
    return dict(_PIN.findall(locked.read_text(encoding="utf-8")))


def knows_weaknesses(index: str, name: str, version: str) -> bool:
    """Whether the index says what is known of this version; a list of none is an answer too."""
    try:
        with urllib.request.urlopen(f"{index}/pypi/{name}/{version}/json", timeout=_SECONDS) as answer:
            return isinstance(json.load(answer)["vulnerabilities"], list)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def main(index: str = INDEX, locked: Path = LOCKED, audit: Sequence[str] = (sys.executable, "-m", "pip_audit")) -> int:
    """Exit status: 0 where nothing is known of any of them, or nobody knows anything, which is said."""
    found = pins(locked)
    if not any(knows_weaknesses(index, name, version) for name, version in sorted(found.items())[:3]):
        print(f"{index} knows no weaknesses of versions, or does not answer: {locked.name} was NOT audited")
        return 0
    options = ("--strict", "--require-hashes", "--disable-pip", "--progress-spinner", "off", "--requirement")
    return subprocess.run([*audit, *options, str(locked)], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
