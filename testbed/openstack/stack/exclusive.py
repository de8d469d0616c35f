"""One run at a time: an advisory lock on a file, given back by the kernel however the holder ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .layout import TestbedError
from .progress import say


@contextmanager
def exclusive(path: Path, wait_seconds: float) -> Iterator[None]:
    """Holds the lock at `path`, waiting for another holder up to `wait_seconds`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_seconds
    told = False
    # Python opens files close-on-exec, so the services started meanwhile do not inherit the lock.
    with path.open("a+") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                if time.monotonic() > deadline:
                    raise TestbedError(f"process {holder} still holds {path} after {wait_seconds:.0f} s") from None
                if not told:
                    say(f"waiting for process {holder}, which holds {path}")
                    told = True
                time.sleep(0.2)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
