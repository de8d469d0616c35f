"""Commands as JSON lines: one request a line on standard input, one answer a line on standard output.

Request `{"id": 1, "command": "port-create", "arguments": {"network": "…"}}`, answer `{"id": 1, "ok": {…}}` or
`{"id": 1, "error": "…"}`. Requests are worked on side by side: who needs an order waits for the answer.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .api import Json
from .commands import Commands, perform

AT_ONCE = 8


def drive(commands: Commands) -> None:
    """Answers until standard input ends."""
    with ThreadPoolExecutor(AT_ONCE) as workers:
        for line in sys.stdin:
            if line.strip():
                workers.submit(_answer, commands, line)


def speak(message: Json) -> None:
    """One line on standard output."""
    # One write, so that lines of different threads do not mix.
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _answer(commands: Commands, line: str) -> None:
    identifier: Any = None
    try:
        request = json.loads(line)
        identifier = request.get("id")
        speak({"id": identifier, "ok": perform(commands, request["command"], request.get("arguments", {}))})
    except Exception as error:  # whatever it is, the one who asked is waiting for an answer
        speak({"id": identifier, "error": f"{type(error).__name__}: {error}"})
