"""Where the stack keeps its files, which ports it listens on, and who may log in."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass, fields
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
"""The folder of `openstack.py`."""

LOOPBACK = "127.0.0.1"
REGION = "RegionOne"
DOMAIN = "Default"
COMPUTE_HOST = "compute1"

ADMIN_PASSWORD = "admin-secret"
SERVICE_PASSWORD = "service-secret"
MEMBER_PASSWORD = "member-secret"
RABBIT_USER = "openstack"
RABBIT_PASSWORD = "rabbit-secret"

# The kernel's sockaddr_un holds 108 bytes, the last of them a NUL.
LONGEST_SOCKET_PATH = 107


class TestbedError(Exception):
    """Something the user has to know; the message says what to do about it."""


@dataclass(frozen=True)
class Ports:
    """One TCP port for each listener of the stack; the defaults are taken if they are free."""

    keystone: int = 15000
    neutron: int = 19696
    nova: int = 18774
    placement: int = 18778
    glance: int = 19292
    rabbitmq: int = 15672
    rabbitmq_distribution: int = 15673
    epmd: int = 14369

    @classmethod
    def choose(cls) -> Ports:
        """`MULTINIC_OPENSTACK_PORT_<NAME>` decides, else the default, else any port that is free."""
        chosen: dict[str, int] = {}
        for field in fields(cls):
            variable = f"MULTINIC_OPENSTACK_PORT_{field.name.upper()}"
            wish = os.environ.get(variable)
            if wish is None:
                chosen[field.name] = _free_port(getattr(cls, field.name), set(chosen.values()))
            elif wish.isdecimal() and 0 < int(wish) < 65536:
                chosen[field.name] = int(wish)
            else:
                raise TestbedError(f"{variable}={wish!r} is not a TCP port")
        return cls(**chosen)


def _free_port(wish: int, taken: set[int]) -> int:
    for candidate in (wish, 0, 0, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, candidate))
            except OSError:
                continue
            port: int = probe.getsockname()[1]
            if port not in taken:
                return port
    raise TestbedError("found no free TCP port on the loopback interface")


@dataclass(frozen=True)
class Layout:
    """Every path of the stack, all of them below `root`."""

    root: Path

    @classmethod
    def from_environment(cls) -> Layout:
        """The cache of the test beds: `MULTINIC_TESTBED_CACHE`, else the user's cache folder."""
        cache = os.environ.get("MULTINIC_TESTBED_CACHE")
        if not cache:
            base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
            cache = str(Path(base) / "multinic-testbed")
        layout = cls(Path(cache).absolute() / "openstack")
        if len(os.fsencode(layout.mariadb_socket)) > LONGEST_SOCKET_PATH:
            raise TestbedError(
                f"{layout.root} is too long a path for UNIX sockets; set MULTINIC_TESTBED_CACHE to a shorter one"
            )
        return layout

    @property
    def venv(self) -> Path:
        """The virtual environment with the OpenStack programs."""
        return self.root / "venv"

    @property
    def settings(self) -> Path:
        """Configuration files, written anew at each start."""
        return self.root / "etc"

    @property
    def run(self) -> Path:
        """PID files and sockets."""
        return self.root / "run"

    @property
    def log(self) -> Path:
        """One log file per process."""
        return self.root / "log"

    @property
    def data(self) -> Path:
        """What the services keep: databases, keys, images."""
        return self.root / "var"

    @property
    def temporary(self) -> Path:
        """TMPDIR of every process; emptied at each start."""
        return self.data / "tmp"

    @property
    def snapshot(self) -> Path:
        """The state just after it was made: schemas, service users, image and flavor, but no server and no port."""
        return self.root / "empty-state.tar.gz"

    @property
    def lock(self) -> Path:
        """Held by whoever installs, starts, stops, or runs a session."""
        return self.root / "lock"

    @property
    def endpoints(self) -> Path:
        """What a client has to know; there while the stack is ready."""
        return self.run / "endpoints.json"

    @property
    def plugged_ports(self) -> Path:
        """One empty file per Neutron port that the hypervisor has plugged into a server, named by the port's id."""
        # Where Nova keeps its state: `hypervisor.py` finds it from there. The servers outlive a restart, so do these.
        return self.data / "nova/plugged"

    @property
    def held_ports(self) -> Path:
        """One empty file per Neutron port that the chassis must leave DOWN, named by the port's id."""
        return self.run / "hold"

    @property
    def guests(self) -> Path:
        """One file per server that has a guest, with the path of its network namespace; there only with a real switch."""
        return self.data / "nova/guests"

    @property
    def switch_socket(self) -> Path:
        """Where the database of Open vSwitch is served."""
        return self.run / "ovs.sock"

    @property
    def ovsdb_socket(self) -> Path:
        """Where the northbound and the southbound database of OVN are served."""
        return self.run / "ovsdb.sock"

    @property
    def mariadb_socket(self) -> Path:
        """Where MariaDB is served; it has no TCP port."""
        return self.run / "mariadb.sock"

    def program(self, name: str) -> str:
        """A program of the virtual environment."""
        return str(self.venv / "bin" / name)

    def remember_ports(self, ports: Ports) -> None:
        """Keeps the ports for the commands that meet a running stack."""
        (self.run / "ports.json").write_text(json.dumps(asdict(ports)))

    def remembered_ports(self) -> Ports:
        """The ports of the last start."""
        return Ports(**json.loads((self.run / "ports.json").read_text()))
