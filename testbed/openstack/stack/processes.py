"""Background processes known by a PID file each: started detached, waited for, stopped, never searched for by name."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .layout import LOOPBACK, Layout, TestbedError

POLL_SECONDS = 0.1


class Processes:
    """The processes of one stack."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def start(self, name: str, command: list[str], environment: Mapping[str, str] | None = None) -> None:
        """Starts `command` and leaves it running, with its output in the log folder."""
        if not self.alive(name):
            self._spawn(name, command, environment)

    def run(self, name: str, command: list[str], environment: Mapping[str, str] | None = None) -> None:
        """Runs `command` to its end; `stop` can end it from elsewhere, like any other."""
        code = self._spawn(name, command, environment).wait()
        self._pid_file(name).unlink(missing_ok=True)
        if code != 0:
            raise TestbedError(f"{Path(command[0]).name} failed with {code}; {self.tail(name)}")

    def _spawn(
        self, name: str, command: list[str], environment: Mapping[str, str] | None
    ) -> subprocess.Popen[bytes]:
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                ["nice", "-n", "10", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment(environment),
                # uWSGI imports from where it is started; the caller's folder may hold a module of any name.
                cwd=self._layout.temporary,
                start_new_session=True,
            )
        # A PID may be given to another process one day; together with its start time it is not.
        self._pid_file(name).write_text(f"{process.pid} {_start_time(process.pid) or 0}\n")
        return process

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """What a process of the stack gets to see: nothing of the caller's proxies and OS_* variables."""
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self._layout.data),
            "LANG": "C.UTF-8",
            "TMPDIR": str(self._layout.temporary),
            "OVS_RUNDIR": str(self._layout.run),
            "OVN_RUNDIR": str(self._layout.run),
            "PYTHONWARNINGS": "ignore",
            **(more or {}),
        }

    def pid(self, name: str) -> int | None:
        """The process that `name` is, if it lives."""
        try:
            pid, started = map(int, self._pid_file(name).read_text().split())
        except (FileNotFoundError, ValueError):
            return None
        return pid if _start_time(pid) == started else None

    def alive(self, name: str) -> bool:
        """Whether the process was started and has not ended."""
        return self.pid(name) is not None

    def names(self) -> list[str]:
        """All that have a PID file."""
        return sorted(file.stem for file in self._layout.run.glob("*.pid"))

    def wait_for(self, name: str, ready: Callable[[], bool], seconds: float) -> None:
        """Returns when `ready` says so; gives up when the process ends or the time is over."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.alive(name):
                raise TestbedError(f"{name} ended before it was ready; {self.tail(name)}")
            if time.monotonic() > deadline:
                raise TestbedError(f"{name} is not ready after {seconds:.0f} s; {self.tail(name)}")
            time.sleep(POLL_SECONDS)

    def stop(self, names: Sequence[str], grace_seconds: float) -> list[str]:
        """Asks all of them to end, and after the grace kills those which did not, with their children; gives these."""
        groups = {name: pid for name in names if (pid := self.pid(name)) is not None}
        for pid in groups.values():
            _signal(os.kill, pid, signal.SIGTERM)
        deadline = time.monotonic() + grace_seconds
        while (left := [name for name in groups if self.alive(name)]) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        # Also those that ended: a worker may have outlived its master, and the group's id is taken as long as it does.
        for pid in groups.values():
            _signal(os.killpg, pid, signal.SIGKILL)
        # A worker that is still on its way out holds the port that the next start needs.
        while any(_members(pid) for pid in groups.values()):
            time.sleep(POLL_SECONDS)
        for name in names:
            self._pid_file(name).unlink(missing_ok=True)
        return left

    def memory(self, name: str) -> int:
        """The memory of the process and all of its group, in bytes; of shared pages, its share."""
        group = self.pid(name)
        total = 0
        for pid in _members(group) if group is not None else []:
            try:
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue  # it ended meanwhile
            total += sum(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))
        return total

    def log(self, name: str) -> Path:
        """Where the output of `name` goes."""
        return self._layout.log / f"{name}.log"

    def tail(self, name: str) -> str:
        """The last lines of the log, with its path, for an error message."""
        log = self.log(name)
        lines = log.read_text(errors="replace").splitlines()[-25:] if log.exists() else []
        return f"the end of {log}:\n" + "\n".join(lines)

    def _pid_file(self, name: str) -> Path:
        return self._layout.run / f"{name}.pid"


def listens(port: int) -> bool:
    """Whether something accepts connections on a port of the loopback interface."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0


def _start_time(pid: int) -> int | None:
    """Clock ticks from boot to the start of the process; None when it has ended."""
    fields = _stat(pid)
    return None if fields is None else int(fields[19])


def _members(group: int) -> list[int]:
    """The living processes of a process group."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return [pid for pid in pids if (fields := _stat(pid)) is not None and int(fields[2]) == group]


def _stat(pid: int) -> list[str] | None:
    """`/proc/PID/stat` from its third field on (`proc(5)`); None when the process has ended."""
    try:
        # The second field is the program's name in brackets and may hold anything, also spaces and brackets.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    # The main thread of a process may be a zombie while others end, and until the last has, its sockets are open.
    ended = fields[0] in "ZX" and int(fields[17]) <= 1
    return None if ended else fields


def _signal(send: Callable[[int, int], None], target: int, number: int) -> None:
    try:
        send(target, number)
    except ProcessLookupError:
        pass
