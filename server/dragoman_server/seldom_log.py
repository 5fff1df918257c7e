"""The logger of modules that seldom have anything to say: structlog is imported when they do.

A server has it in any case; an engine that others embed does without its 14 MB.
"""

from __future__ import annotations

from typing import Any


def logger(name: str) -> Any:
    """structlog's, of the module of that name."""
    import structlog  # noqa: PLC0415  (see above)

    return structlog.get_logger(name)
