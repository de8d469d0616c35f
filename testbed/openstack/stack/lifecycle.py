"""Starting and stopping the whole stack."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime

from . import readiness, snapshot
from .api import Json, Session, until
from .layout import (
    ADMIN_PASSWORD,
    COMPUTE_HOST,
    DOMAIN,
    MEMBER_PASSWORD,
    REGION,
    Layout,
    Ports,
)
from .processes import Processes
from .progress import say
from .schema import FLAVOR, IMAGE, MEMBER, PROJECT, Schema
from .services import (
    READY_SECONDS,
    STATEFUL,
    STATEFUL_GRACE_SECONDS,
    STATELESS_GRACE_SECONDS,
    WSGI_MODULES,
    Services,
    chassis,
    everything,
)
from .settings import Settings

DEFAULT_TOKEN_SECONDS = 3600


def start(
    layout: Layout, *, fresh: bool, anew: bool, switch: bool, token_seconds: int = DEFAULT_TOKEN_SECONDS
) -> Json:
    """Starts what is not running and gives the endpoints.

    With `fresh` the state is the empty one, whatever the last run left; with `anew` even that is made again. With `switch`
    servers have guests whose NICs a real switch connects.
    """
    processes = Processes(layout)
    is_alike = switch == layout.guests.exists()
    running = layout.endpoints.exists() and all(map(processes.alive, everything(layout)))
    if not (fresh or anew) and is_alike and running:
        say("already running")
        endpoints: Json = json.loads(layout.endpoints.read_text())
        return endpoints
    stop(layout)
    if anew:
        layout.snapshot.unlink(missing_ok=True)
    if fresh or anew or not snapshot.state_is_usable(layout):
        snapshot.restore(layout)
    _make_folders(layout, switch=switch)
    try:
        return _Start(layout, token_seconds).run()
    except BaseException:
        say("the start failed: stopping what had been started")
        stop(layout)
        raise


def stop(layout: Layout) -> None:
    """Stops all that has a PID file, also after a start that failed half way."""
    processes = Processes(layout)
    layout.endpoints.unlink(missing_ok=True)
    names = processes.names()
    if not names:
        return
    stateful = [name for name in names if name in STATEFUL]
    processes.stop([name for name in names if name not in (*STATEFUL, "epmd")], STATELESS_GRACE_SECONDS)
    for name in processes.stop(stateful, STATEFUL_GRACE_SECONDS):
        say(f"{name} did not end within {STATEFUL_GRACE_SECONDS} s and was killed; its log is {processes.log(name)}")
    processes.stop(["epmd"] if "epmd" in names else [], STATELESS_GRACE_SECONDS)
    say("stopped")


def status(layout: Layout) -> Json:
    """Which processes live, and the memory that each takes."""
    processes = Processes(layout)
    found: Json = {}
    for name in everything(layout):
        pid = processes.pid(name)
        found[name] = pid and {"pid": pid, "memory_mib": round(processes.memory(name) / 2**20)}
    ready = layout.endpoints.exists() and all(found.values())
    total = sum(process["memory_mib"] for process in found.values() if process)
    return {"ready": ready, "memory_mib": total, "processes": found, "endpoints_file": str(layout.endpoints)}


def services_of_running(layout: Layout) -> Services:
    """To stop and start single services of a running stack."""
    ports = layout.remembered_ports()
    return Services(layout, ports, Settings(layout, ports, DEFAULT_TOKEN_SECONDS))


def _make_folders(layout: Layout, *, switch: bool) -> None:
    previous = layout.log.with_name("log.previous")
    if layout.log.exists():
        shutil.rmtree(previous, ignore_errors=True)
        layout.log.rename(previous)
    shutil.rmtree(layout.run, ignore_errors=True)
    shutil.rmtree(layout.temporary, ignore_errors=True)
    for folder in (layout.run, layout.log, layout.temporary, layout.held_ports):
        folder.mkdir(parents=True)
    kept = [layout.data / name for name in ("neutron", "glance/images", "glance/staging", "glance/tasks")]
    for folder in (*kept, layout.plugged_ports):
        folder.mkdir(parents=True, exist_ok=True)
    # The guests of the last run are gone.
    shutil.rmtree(layout.guests, ignore_errors=True)
    if switch:
        layout.guests.mkdir()


class _Start:
    """One start. What takes time is importing, and at first the schemas: both are done side by side."""

    def __init__(self, layout: Layout, token_seconds: int) -> None:
        self._layout = layout
        self._ports = Ports.choose()
        self._settings = Settings(layout, self._ports, token_seconds)
        self._services = Services(layout, self._ports, self._settings)
        self._schema = Schema(layout, self._settings, self._services)
        self._session = Session(self._settings.service_urls())
        self._new = not snapshot.state_is_usable(layout)

    def run(self) -> Json:
        say("making a new state" if self._new else "starting with the state that there is")
        began = readiness.now()
        self._layout.remember_ports(self._ports)
        self._settings.write()
        self._start_stores()
        with ThreadPoolExecutor() as lanes:
            try:
                self._start_services(lanes)
            except BaseException:
                # The other lanes would go on with what nobody waits for any more.
                stop(self._layout)
                raise
        self._wait_until_ready(began)
        if self._new:
            self._schema.image_and_flavor(self._session)
            self._keep()
        endpoints = self._describe()
        self._layout.endpoints.write_text(json.dumps(endpoints, indent=2) + "\n")
        say("ready")
        return endpoints

    def _start_services(self, lanes: ThreadPoolExecutor) -> None:
        keystone = lanes.submit(self._keystone)
        others = [
            lanes.submit(self._api, ("neutron",), self._schema.neutron),
            lanes.submit(self._api, ("placement", "glance"), self._schema.placement_and_glance),
            lanes.submit(self._api, ("nova",), self._schema.nova),
        ]
        lanes.submit(self._nova_workers, keystone, others).result()

    def _start_stores(self) -> None:
        for name in ("epmd", "mariadb", "ovsdb"):
            self._services.start(name)
        self._services.wait_for("epmd")
        self._services.start("rabbitmq")
        self._services.wait_for("ovsdb")
        self._services.start("ovn-northd")
        for name in chassis(self._layout):
            self._services.start(name)
            self._services.wait_for(name)
        self._services.wait_for("mariadb")
        if self._new:
            self._schema.databases()
        else:
            self._schema.move_catalog()
        say("databases are up")

    def _keystone(self) -> None:
        if self._new:
            self._schema.keystone()
        self._services.start("keystone")
        self._services.wait_for("keystone")
        if self._new:
            self._schema.identities(self._session)
        say("keystone is up")

    def _api(self, names: tuple[str, ...], make_schema: Callable[[], None]) -> None:
        if self._new:
            make_schema()
            say(f"schema of {' and '.join(names)} made")
        for name in names:
            self._services.start(name)
        for name in names:
            self._services.wait_for(name)
            say(f"{name} is up")

    def _nova_workers(self, keystone: Future[None], others: list[Future[None]]) -> None:
        if self._new:
            # They ask Keystone for a token at once, and end if it does not know their user.
            for other in (keystone, *others):
                other.result()
        self._services.wait_for("rabbitmq")
        self._services.start("nova-conductor")
        self._services.start("nova-scheduler")
        # nova-compute's first message waits 10 s for its answer, and is lost if the conductor does not listen yet.
        self._services.wait_for("nova-conductor")
        keystone.result()
        self._services.start("nova-compute")
        say("nova's workers are started")
        for other in others:
            other.result()

    def _keep(self) -> None:
        """Takes the snapshot; the services find MariaDB again by themselves."""
        snapshot.mark_state(self._layout)
        self._services.stop("mariadb")
        snapshot.save(self._layout, self._services.processes)
        self._services.start("mariadb")
        self._services.wait_for("mariadb")
        self._wait_until_ready(readiness.now())

    def _wait_until_ready(self, since: datetime) -> None:
        readiness.wait_until_ready(self._layout, self._session, self._services.processes, since)

    def _describe(self) -> Json:
        """What tests read."""
        urls = self._settings.service_urls()
        find = self._session.find

        def identifier(service: str, path: str, key: str, name: str) -> str:
            found = until(f"{key} {name}", READY_SECONDS, lambda: find(service, path, key, name=name))
            return str(found["id"])

        flavors = self._session.call("GET", "compute", "/flavors")["flavors"]
        project_id = identifier("identity", "/projects", "projects", PROJECT)
        return {
            "auth_url": urls["identity"],
            "neutron_url": urls["network"],
            "nova_url": urls["compute"],
            "placement_url": urls["placement"],
            "glance_url": urls["image"],
            "rabbitmq_url": self._settings.message_bus(),
            "region": REGION,
            "domain": DOMAIN,
            "project": PROJECT,
            "project_id": project_id,
            "admin": {
                "username": "admin",
                "password": ADMIN_PASSWORD,
                "user_id": self._session.user_id,
                "project": "admin",
                "project_id": identifier("identity", "/projects", "projects", "admin"),
            },
            "member": {
                "username": MEMBER,
                "password": MEMBER_PASSWORD,
                "user_id": identifier("identity", "/users", "users", MEMBER),
                "project": PROJECT,
                "project_id": project_id,
            },
            "image_id": identifier("image", "/v2/images", "images", IMAGE),
            "flavor_id": next(flavor["id"] for flavor in flavors if flavor["name"] == FLAVOR),
            "compute_host": COMPUTE_HOST,
            "services": sorted(WSGI_MODULES),
        }
