"""Every block of Python in docs/attention.md prints what the page shows under it."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import torch

PAGE = Path(__file__).parents[2] / "docs" / "attention.md"
BLOCK = re.compile(r"```python\n(.*?)```\n+(?:```text\n(.*?)```)?", re.DOTALL)


def test_the_page_says_what_its_code_prints() -> None:
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) >= 9
    namespace: dict[str, Any] = {}
    with torch.random.fork_rng():
        try:
            for code, shown in blocks:
                printed = io.StringIO()
                with contextlib.redirect_stdout(printed):
                    exec(compile(code, str(PAGE), "exec"), namespace)
                assert printed.getvalue() == shown, code
        finally:
            torch.set_printoptions(profile="default")  # type: ignore[no-untyped-call]
