"""When the stack is ready for a server with ports: not when its processes answer, but when they see each other."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from .api import ApiError, Session
from .layout import Layout, TestbedError
from .processes import Processes
from .services import NOVA_WORKERS, READY_SECONDS, everything


def now() -> datetime:
    """The time in the form and to the second of Nova's heartbeats."""
    return datetime.now(UTC).replace(microsecond=0, tzinfo=None)


def wait_until_ready(layout: Layout, session: Session, processes: Processes, since: datetime) -> None:
    """Waits until Nova's services have sent a heartbeat after `since`, and all else that a server needs is there."""
    deadline = time.monotonic() + READY_SECONDS
    while (missing := _missing(session, since)) is not None:
        for name in everything(layout):
            if not processes.alive(name):
                raise TestbedError(f"{name} ended; {processes.tail(name)}")
        if time.monotonic() > deadline:
            raise TestbedError(f"not ready after {READY_SECONDS} s: {missing}; logs: {processes.log('*')}")
        time.sleep(0.3)


def _missing(session: Session, since: datetime) -> str | None:
    try:
        agents = session.call("GET", "network", "/v2.0/agents")["agents"]
        services = session.call("GET", "compute", "/os-services")["services"]
        hypervisors = session.call("GET", "compute", "/os-hypervisors")["hypervisors"]
        providers = session.call("GET", "placement", "/resource_providers")["resource_providers"]
    except (ApiError, OSError) as error:
        return str(error)
    if not any(agent["alive"] for agent in agents):
        return "Neutron sees no live agent"
    # For a minute Nova takes an old heartbeat for a live service; what is sent to that one is lost.
    beating = {
        service["binary"]
        for service in services
        if service["updated_at"] and datetime.fromisoformat(service["updated_at"]) > since
    }
    silent = set(NOVA_WORKERS) - beating
    if silent:
        return f"no heartbeat of {', '.join(sorted(silent))}"
    return None if hypervisors and providers else "Nova has no hypervisor in Placement"
