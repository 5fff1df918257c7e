"""Load on a running server: what it gives, how long that takes, every answer checked. See docs/load-testing.md."""
