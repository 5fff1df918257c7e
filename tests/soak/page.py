"""The page about a soak, written from its JSON."""

from __future__ import annotations

from typing import Any

from tests.soak.verdict import MOST_ALLOCATED, MOST_GROWTH

_ROWS = {
    "resident, MiB": "rss",
    "proportional, MiB": "pss",
    "private and written, MiB": "private_dirty",
    "anonymous, MiB": "anonymous",
    "allocated by malloc, MiB": "heap_used",
    "free in its heap, MiB": "heap_free",
    "threads": "threads",
    "file descriptors": "files",
    "rows free": "rows_free",
    "rows used": "rows_used",
}


def page(content: dict[str, Any]) -> str:
    """``content`` is that of ``soak.json``."""
    looks = [content["idle"][name] for name in ("before", "halfway", "end")]
    rows = [" | ".join([name, *(str(look[key]) for look in looks)]) for name, key in _ROWS.items()]
    asked: dict[str, int] = content["asked"]
    kinds = ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in asked.items())
    growth = looks[2]["rss"] / looks[1]["rss"] - 1
    allocated = looks[2]["heap_used"] / looks[1]["heap_used"] - 1
    machine, settings, faults = content["machine"], content["settings"], content["faults"]
    verdict = f"It does not hold: {'; '.join(faults)}." if faults else "All of it holds."
    paragraphs = [
        "# Soak",
        f"`make soak`: {sum(asked.values()):,} requests from {settings['callers']} callers at one time in "
        f"{content['seconds']:,.0f} s; {content['failed']} of them failed.\n"
        f"{kinds}.",
        "The server is a process of its own with the three shipped models, "
        f"{settings['lanes']} lanes each. It is looked at while nobody asks:\n"
        "before the first request, after half of them, and at the end.",
        "| idle server | before | halfway | end |\n|---|---|---|---|\n" + "\n".join(f"| {row} |" for row in rows),
        f"Over the second half resident memory changed by {growth:+.1%}, what malloc has given out by "
        f"{allocated:+.1%}; at most\n{MOST_GROWTH:+.0%} and {MOST_ALLOCATED:+.0%} are allowed. Rows must all be free, "
        "no request may be waiting or running, files must be\n"
        f"as many as halfway, and threads one more or less. {verdict}",
        "![soak](soak.png)",
        f"{machine['processor']}, {machine['cores']} cores; {content['measured_at'][:10]}. "
        "All samples: [soak.json](soak.json).",
    ]
    return "\n\n".join(paragraphs) + "\n"
