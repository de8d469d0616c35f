"""What a run tells on standard error while it works; standard output is for JSON only."""

from __future__ import annotations

import sys
import time

_began = time.monotonic()


def say(message: str) -> None:
    """One line, with the seconds since the program began."""
    print(f"openstack [{time.monotonic() - _began:6.1f}s] {message}", file=sys.stderr, flush=True)
