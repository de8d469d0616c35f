"""Every process of the stack: how it is started, and when it is ready."""

from __future__ import annotations

import http.client
import shutil

from .api import send
from .install import OVN_SCHEMAS, RABBITMQ_SERVER, SWITCH_SCHEMA
from .layout import COMPUTE_HOST, HERE, LOOPBACK, Layout, Ports
from .processes import Processes, listens
from .settings import Settings

# The machine may be busy with something else; what is broken ends by itself and is noticed at once.
READY_SECONDS = 600

WSGI_MODULES = {
    "keystone": "keystone.wsgi.api",
    "neutron": "neutron.wsgi.api",
    "nova": "nova.wsgi.osapi_compute",
    "placement": "placement.wsgi.api",
    "glance": "glance.wsgi.api",
}
NOVA_WORKERS = ("nova-conductor", "nova-scheduler", "nova-compute")

# With no data of their own these need not be asked for long; Neutron's worker does not heed SIGTERM at all.
STATELESS = ("nova-compute", "nova-scheduler", "nova-conductor", *WSGI_MODULES)
STATELESS_GRACE_SECONDS = 3
STATEFUL = ("ovn-northd", "ovsdb", "rabbitmq", "mariadb")
STATEFUL_GRACE_SECONDS = 30
# What claims the ports of the one hypervisor.
STAND_IN = ("chassis",)
SWITCH = ("switch-db", "switch", "ovn-controller")


def chassis(layout: Layout) -> tuple[str, ...]:
    """The processes of the hypervisor's network: a real switch where guests have NICs, else what stands in for it."""
    return SWITCH if layout.guests.exists() else STAND_IN


def everything(layout: Layout) -> tuple[str, ...]:
    """All processes of the stack."""
    return (*STATELESS, *chassis(layout), *STATEFUL, "epmd")


class Services:
    """Starts and stops by name."""

    def __init__(self, layout: Layout, ports: Ports, settings: Settings) -> None:
        self._layout = layout
        self._ports = ports
        self._settings = settings
        self.processes = Processes(layout)

    def start(self, name: str) -> None:
        """Starts one service without waiting for it."""
        if name in WSGI_MODULES:
            self._start_wsgi(name)
        elif name in NOVA_WORKERS:
            config = self._layout.settings / "nova/nova.conf"
            self.processes.start(name, [self._layout.program(name), "--config-file", str(config)])
        else:
            {
                "mariadb": self._start_mariadb,
                "epmd": self._start_epmd,
                "rabbitmq": self._start_rabbitmq,
                "ovsdb": self._start_ovsdb,
                "ovn-northd": self._start_northd,
                "chassis": self._start_chassis,
                "switch-db": self._start_switch_db,
                "switch": self._start_switch,
                "ovn-controller": self._start_ovn_controller,
            }[name]()

    def wait_for(self, name: str) -> None:
        """Waits until the service answers; for one without a port, nothing is waited for."""
        if name in WSGI_MODULES:
            port = getattr(self._ports, name)
            self.processes.wait_for(name, lambda: _answers(port), READY_SECONDS)
        elif name == "mariadb":
            self.processes.wait_for(name, self._mariadb_answers, READY_SECONDS)
        elif name in ("rabbitmq", "epmd"):
            port = getattr(self._ports, name)
            self.processes.wait_for(name, lambda: listens(port), READY_SECONDS)
        elif name == "ovsdb":
            self.processes.wait_for(name, self._layout.ovsdb_socket.exists, READY_SECONDS)
        elif name == "switch-db":
            self.processes.wait_for(name, self._layout.switch_socket.exists, READY_SECONDS)
        elif name == "nova-conductor":
            # It has no other sign of life before its first heartbeat, which takes 5 s more.
            log = self.processes.log(name)
            self.processes.wait_for(name, lambda: b"Starting conductor node" in log.read_bytes(), READY_SECONDS)

    def stop(self, name: str) -> None:
        """Stops one service."""
        grace = STATEFUL_GRACE_SECONDS if name in STATEFUL else STATELESS_GRACE_SECONDS
        self.processes.stop([name], grace)

    def sql(self, statements: str) -> None:
        """Runs SQL as the database's root."""
        self.processes.run("sql", [*self._mariadb_client(), "-e", statements])

    def _start_wsgi(self, name: str) -> None:
        for stale in self._layout.temporary.glob(f"{name}_*"):
            # Neutron elects its first worker by files that it leaves there.
            stale.unlink()
        self.processes.start(
            name,
            [
                *(self._layout.program("uwsgi"), "--http11-socket", f"{LOOPBACK}:{getattr(self._ports, name)}"),
                *("--module", f"{WSGI_MODULES[name]}:application", "--need-app", "--lazy-apps", "--single-interpreter"),
                *("--master", "--processes", "1", "--threads", "4", "--enable-threads", "--thunder-lock"),
                *("--die-on-term", "--hook-master-start", "unix_signal:15 gracefully_kill_them_all"),
                *("--worker-reload-mercy", "2", "--buffer-size", "65535", "--so-keepalive", "--disable-logging"),
                *("--procname-prefix", f"multinic-{name} "),
            ],
            self._settings.environment(),
        )

    def _start_mariadb(self) -> None:
        data = self._layout.data / "mysql"
        if not (data / "mysql").is_dir():
            data.mkdir(parents=True, exist_ok=True)
            self.processes.run(
                "mariadb-install",
                [
                    *("mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}"),
                    *("--auth-root-authentication-method=normal", "--skip-test-db"),
                ],
            )
        self.processes.start(
            "mariadb",
            [
                *("mariadbd", "--no-defaults", "--user=root", f"--datadir={data}"),
                *(f"--socket={self._layout.mariadb_socket}", "--skip-networking", "--skip-name-resolve"),
                f"--pid-file={self._layout.run}/mariadbd.own-pid",
                *("--character-set-server=utf8mb4", "--max-connections=400"),
                # Small, and fast rather than durable: the data lives as long as a test run.
                *("--innodb-buffer-pool-size=96M", "--innodb-log-file-size=16M", "--performance-schema=OFF"),
                *("--skip-log-bin", "--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync"),
            ],
        )

    def _mariadb_client(self) -> list[str]:
        return ["mariadb", "--no-defaults", "--user=root", f"--socket={self._layout.mariadb_socket}"]

    def _mariadb_answers(self) -> bool:
        try:
            self.sql("SELECT 1")
        except Exception:
            return False
        return True

    def _start_epmd(self) -> None:
        # Erlang would start one by itself, as a daemon that nothing stops.
        epmd = shutil.which("epmd") or "/usr/bin/epmd"
        self.processes.start("epmd", [epmd, "-address", LOOPBACK, "-port", str(self._ports.epmd)])

    def _start_rabbitmq(self) -> None:
        (self._layout.data / "rabbitmq").mkdir(exist_ok=True)
        self.processes.start("rabbitmq", [str(RABBITMQ_SERVER)], self._settings.rabbitmq_environment())

    def _start_ovsdb(self) -> None:
        folder = self._layout.data / "ovn"
        folder.mkdir(exist_ok=True)
        databases = []
        for short in ("nb", "sb"):
            file = folder / f"{short}.db"
            if not file.exists():
                schema = OVN_SCHEMAS / f"ovn-{short}.ovsschema"
                self.processes.run("ovsdb", ["ovsdb-tool", "create", str(file), str(schema)])
            databases.append(str(file))
        self.processes.start(
            "ovsdb",
            [
                *("ovsdb-server", "--no-chdir", f"--remote=punix:{self._layout.ovsdb_socket}"),
                *(f"--unixctl={self._layout.run}/ovsdb.ctl", *databases),
            ],
        )

    def _start_northd(self) -> None:
        socket = f"unix:{self._layout.ovsdb_socket}"
        self.processes.start(
            "ovn-northd",
            ["ovn-northd", f"--ovnnb-db={socket}", f"--ovnsb-db={socket}", f"--unixctl={self._layout.run}/northd.ctl"],
        )

    def _start_chassis(self) -> None:
        self.processes.start(
            "chassis",
            [
                *(self._layout.program("python"), str(HERE / "stack/chassis.py")),
                *(str(self._layout.ovsdb_socket), COMPUTE_HOST),
                *(str(self._layout.plugged_ports), str(self._layout.held_ports)),
            ],
        )

    def _start_switch_db(self) -> None:
        # Which interfaces there are is known of the guests; the rest is written below.
        file = self._layout.data / "ovn/switch.db"
        file.unlink(missing_ok=True)
        self.processes.run("switch-db", ["ovsdb-tool", "create", str(file), str(SWITCH_SCHEMA)])
        self.processes.start(
            "switch-db",
            [
                *("ovsdb-server", "--no-chdir", f"--remote=punix:{self._layout.switch_socket}"),
                *(f"--unixctl={self._layout.run}/switch-db.ctl", str(file)),
            ],
        )

    def _start_switch(self) -> None:
        external = {
            "system-id": COMPUTE_HOST,
            "hostname": COMPUTE_HOST,
            "ovn-remote": f"unix:{self._layout.ovsdb_socket}",
            "ovn-encap-type": "geneve",
            "ovn-encap-ip": LOOPBACK,
            "ovn-bridge": "br-int",
            "ovn-bridge-datapath-type": "netdev",
        }
        self.processes.run(
            "switch-settings",
            [
                *("ovs-vsctl", f"--db=unix:{self._layout.switch_socket}", "--no-wait", "init"),
                *("--", "set", "open_vswitch", "."),
                *(f'external_ids:{key}="{value}"' for key, value in external.items()),
                *("--", "--may-exist", "add-br", "br-int"),
                *("--", "set", "bridge", "br-int", "datapath_type=netdev", "fail_mode=secure"),
            ],
        )
        # It switches packets by itself, without the kernel's help, in a network namespace of its own: nothing that it makes is
        # among the machine's links.
        self.processes.start(
            "switch",
            [
                *("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"),
                *("ovs-vswitchd", f"unix:{self._layout.switch_socket}", f"--unixctl={self._layout.run}/switch.ctl"),
            ],
        )

    def _start_ovn_controller(self) -> None:
        self.processes.start("ovn-controller", ["ovn-controller", f"unix:{self._layout.switch_socket}"])


def _answers(port: int) -> bool:
    if not listens(port):
        return False
    try:
        # uWSGI accepts before the application is loaded, and then answers what waits.
        status, _, _ = send("GET", f"http://{LOOPBACK}:{port}/", seconds=5)
    except (OSError, http.client.HTTPException):
        return False
    return status < 500
