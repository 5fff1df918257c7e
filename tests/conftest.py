"""What holds for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def logs_are_configured_anew() -> Iterator[None]:
    """A command that a test ran has sent the logs to that test's own stderr, which is closed by now."""
    yield
    structlog.reset_defaults()
