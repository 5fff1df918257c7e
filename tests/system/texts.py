"""What people type at the playground, in tests and on pictures."""

from __future__ import annotations

COFFEE = "The coffee was so hot that I burned my tongue."
TWO = "It is raining. We are staying at home today."
"""Two sentences."""
