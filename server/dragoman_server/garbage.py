"""How often Python looks for garbage that refers to itself: seldom, where calls come and go by the thousand."""

from __future__ import annotations

import gc

_OBJECTS = 10_000


def collect_seldom() -> None:
    """For the whole process; the default is a look after 700 objects that came and did not go.

    With some dozen calls under way that is every few calls, and nearly all that it looks at is in use: what calls leave
    behind is freed without it.
    """
    gc.set_threshold(_OBJECTS)
