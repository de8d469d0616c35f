"""What tests do to the cloud, one method per command. Each returns when the API shows what was asked for.

Identifiers are UUIDs unless a parameter says "name". `project` is a project's id, by default the stack's own one.
"""

from __future__ import annotations

import inspect
import ipaddress
import json
from collections.abc import Callable
from typing import Any

from . import readiness
from .api import ApiError, Json, Session, until
from .layout import Layout, TestbedError
from .lifecycle import services_of_running
from .schema import grant
from .services import everything

# Generous: the machine may be compiling something at the same time, and all that is well is seen at once.
PATIENCE_SECONDS = 300
URL_KEYS = {
    "identity": "auth_url",
    "network": "neutron_url",
    "compute": "nova_url",
    "image": "glance_url",
    "placement": "placement_url",
}


class Commands:
    """The commands on one running stack."""

    def __init__(self, layout: Layout) -> None:
        if not layout.endpoints.exists():
            raise TestbedError("the stack is not running; start it with `openstack.py start`")
        self._layout = layout
        self._endpoints: Json = json.loads(layout.endpoints.read_text())
        self._sessions: dict[str, Session] = {}

    # Identity

    def project_create(self, name: str) -> Json:
        """A project; the administrator gets the role `admin` in it."""
        admin = self._admin()
        project: Json = admin.call(
            "POST", "identity", "/projects", {"project": {"name": name, "domain_id": "default"}}
        )["project"]
        grant(admin, project["id"], self._endpoints["admin"]["user_id"], self._role("admin"))
        return project

    def user_create(self, name: str, password: str, project: str | None = None, role: str | None = "member") -> Json:
        """A user with a role (`admin`, `member`, `reader`) in a project; without any role if `role` is null."""
        admin = self._admin()
        body = {"name": name, "password": password, "domain_id": "default"}
        user: Json = admin.call("POST", "identity", "/users", {"user": body})["user"]
        if role is not None:
            grant(admin, self._project(project), user["id"], self._role(role))
        return user

    def role_revoke(self, user: str, role: str = "member", project: str | None = None) -> Json:
        """Takes a role from a user; Keystone revokes the tokens that it was in."""
        path = f"/projects/{self._project(project)}/users/{user}/roles/{self._role(role)}"
        self._admin().call("DELETE", "identity", path)
        return {"user": user, "role": role}

    def role_grant(self, user: str, role: str = "member", project: str | None = None) -> Json:
        """Gives a user a role."""
        grant(self._admin(), self._project(project), user, self._role(role))
        return {"user": user, "role": role}

    def password_set(self, user: str, password: str) -> Json:
        """Changes a user's password."""
        user_body = {"user": {"password": password}}
        answer: Json = self._admin().call("PATCH", "identity", f"/users/{user}", user_body)["user"]
        return answer

    def application_credential_create(
        self, name: str, username: str, password: str, project: str | None = None, roles: list[str] | None = None
    ) -> Json:
        """An application credential of that user in that project; the answer has its `id` and its `secret`."""
        owner = Session(self._urls(), username, password, {"id": self._project(project)})
        owner.log_in()
        body: Json = {"name": name}
        if roles is not None:
            body["roles"] = [{"name": role} for role in roles]
        path = f"/users/{owner.user_id}/application_credentials"
        made: Json = owner.call("POST", "identity", path, {"application_credential": body})["application_credential"]
        return made

    # Networks

    def network_create(self, name: str, mtu: int = 1450, project: str | None = None) -> Json:
        """A network."""
        return self._create("network", {"name": name, "mtu": mtu, "project_id": self._project(project)})

    def subnet_create(self, name: str, network: str, cidr: str, ipv6_mode: str | None = None, **more: Any) -> Json:
        """A subnet, IPv4 or IPv6 by its CIDR; `ipv6_mode` is Neutron's, and so are more attributes."""
        version = ipaddress.ip_network(cidr).version
        body = {"name": name, "network_id": network, "cidr": cidr, "ip_version": version, **more}
        if ipv6_mode is not None:
            body |= {"ipv6_address_mode": ipv6_mode, "ipv6_ra_mode": ipv6_mode}
        body.setdefault("project_id", self._get("network", network)["project_id"])
        return self._create("subnet", body)

    def network_delete(self, network: str) -> Json:
        """Removes a network with its subnets; it must have no ports."""
        return self._delete("network", network)

    def subnet_delete(self, subnet: str) -> Json:
        """Removes a subnet; no port may have an address of it."""
        return self._delete("subnet", subnet)

    # Ports

    def port_create(
        self, network: str, subnets: list[str] | None = None, name: str = "", mac: str | None = None, **more: Any
    ) -> Json:
        """A port with one address of each subnet, or of Neutron's choice; more of Neutron's attributes as they are."""
        body: Json = {"network_id": network, "name": name, **more}
        if subnets is not None:
            body["fixed_ips"] = [{"subnet_id": subnet} for subnet in subnets]
        if mac is not None:
            body["mac_address"] = mac
        body.setdefault("project_id", self._get("network", network)["project_id"])
        return self._create("port", body)

    def port_update(self, port: str, **attributes: Any) -> Json:
        """Changes Neutron's attributes of a port, as `fixed_ips`, `name`, `admin_state_up`."""
        answer: Json = self._admin().call("PUT", "network", f"/v2.0/ports/{port}", {"port": attributes})["port"]
        return answer

    def port_show(self, port: str) -> Json:
        """The port as Neutron shows it to the administrator."""
        return self._get("port", port)

    def port_delete(self, port: str) -> Json:
        """Removes a port, also from its server."""
        return self._delete("port", port)

    def port_status(self, port: str, status: str) -> Json:
        """Holds a port DOWN, as if its hypervisor had lost it, or lets it be ACTIVE again; its server keeps it."""
        if self._layout.guests.exists():
            raise TestbedError("a real switch has no port that it holds")
        held = self._layout.held_ports / port
        if status == "DOWN":
            held.touch()
        elif status == "ACTIVE":
            held.unlink(missing_ok=True)
        else:
            raise TestbedError(f"a port is put DOWN or ACTIVE, not {status!r}")
        return self.wait_port(port, status=status)

    def wait_port(self, port: str, seconds: float = PATIENCE_SECONDS, **expected: Any) -> Json:
        """Waits until a port has all these values, as `status=ACTIVE`, `device_id=…`."""

        def look() -> Json | None:
            found = self._get("port", port)
            return found if all(found.get(key) == value for key, value in expected.items()) else None

        return until(f"port {port} to have {expected}", seconds, look)

    # Servers

    def server_create(
        self,
        name: str,
        metadata: dict[str, str] | None = None,
        ports: list[str] | None = None,
        project: str | None = None,
    ) -> Json:
        """A running server with these ports, without any by default."""
        project = self._project(project)
        body = {
            "name": name,
            "imageRef": self._endpoints["image_id"],
            "flavorRef": self._endpoints["flavor_id"],
            "metadata": metadata or {},
            "networks": [{"port": port} for port in ports] if ports else "none",
        }
        session = self._session(project)
        server = session.call("POST", "compute", "/servers", {"server": body})["server"]["id"]

        def look() -> Json | None:
            found: Json = session.call("GET", "compute", f"/servers/{server}")["server"]
            if found["status"] == "ERROR":
                raise TestbedError(f"server {name} failed: {found.get('fault')}")
            return found if found["status"] == "ACTIVE" else None

        made = until(f"server {name} to be ACTIVE", PATIENCE_SECONDS, look)
        for port in ports or []:
            self.wait_port(port, device_id=server, status="ACTIVE")
        return made

    def server_guest(self, server: str, netns: str) -> Json:
        """Says in which network namespace (a path) a server's NICs appear from now on; with a real switch only."""
        if not self._layout.guests.exists():
            raise TestbedError("no server of this stack has a guest; start it with --switch")
        (self._layout.guests / server).write_text(netns)
        return {"server": server, "netns": netns}

    def server_show(self, server: str) -> Json:
        """The server as Nova shows it to the administrator."""
        found: Json = self._admin().call("GET", "compute", f"/servers/{server}")["server"]
        return found

    def server_rename(self, server: str, name: str) -> Json:
        """Gives a server another name."""
        answer: Json = self._admin().call("PUT", "compute", f"/servers/{server}", {"server": {"name": name}})["server"]
        return answer

    def server_metadata(self, server: str, metadata: dict[str, str]) -> Json:
        """Replaces the metadata of a server."""
        answer: Json = self._admin().call(
            "PUT", "compute", f"/servers/{server}/metadata", {"metadata": metadata}
        )
        return answer

    def server_delete(self, server: str) -> Json:
        """Removes a server; Nova leaves ports that it did not make, without a server."""
        admin = self._admin()
        admin.call("DELETE", "compute", f"/servers/{server}")

        def look() -> Json | None:
            try:
                admin.call("GET", "compute", f"/servers/{server}")
            except ApiError as error:
                if error.status == 404:
                    return {"server": server}
                raise
            return None

        return until(f"server {server} to be gone", PATIENCE_SECONDS, look)

    def attach(self, server: str, port: str) -> Json:
        """Attaches a port; returns when it is ACTIVE, or DOWN if it is held so."""
        body = {"interfaceAttachment": {"port_id": port}}
        self._admin().call("POST", "compute", f"/servers/{server}/os-interface", body)
        held = (self._layout.held_ports / port).exists()
        return self.wait_port(port, device_id=server, status="DOWN" if held else "ACTIVE")

    def detach(self, server: str, port: str) -> Json:
        """Detaches a port, which lives on, DOWN and with an empty `device_id`."""
        self._admin().call("DELETE", "compute", f"/servers/{server}/os-interface/{port}")
        return self.wait_port(port, device_id="", status="DOWN")

    # The stack itself

    def endpoints(self) -> Json:
        """The contents of `endpoints.json`."""
        return self._endpoints

    def request(self, method: str, service: str, path: str, body: Any = None, project: str | None = None) -> Json:
        """Any other call, as the administrator in a project; `service` is its type in the catalog."""
        answer = self._session(self._project(project)).call(method, service, path, body)
        return {"answer": answer}

    def service_stop(self, service: str) -> Json:
        """Stops one process of the stack, as `keystone`, `neutron`, `nova`, `rabbitmq`."""
        services_of_running(self._layout).stop(self._known(service))
        return {"service": service, "running": False}

    def service_start(self, service: str) -> Json:
        """Starts it again; returns when it answers and, if nothing else is stopped, servers can be worked on again."""
        services = services_of_running(self._layout)
        began = readiness.now()
        services.start(self._known(service))
        services.wait_for(service)
        if all(map(services.processes.alive, everything(self._layout))):
            readiness.wait_until_ready(self._layout, self._admin(), services.processes, began)
        return {"service": service, "running": True}

    def _known(self, service: str) -> str:
        known = everything(self._layout)
        if service not in known:
            raise TestbedError(f"no service {service!r}; there are {', '.join(known)}")
        return service

    def _urls(self) -> dict[str, str]:
        return {kind: self._endpoints[key] for kind, key in URL_KEYS.items()}

    def _project(self, project: str | None) -> str:
        return project or self._endpoints["project_id"]

    def _session(self, project: str) -> Session:
        if project not in self._sessions:
            self._sessions[project] = Session(self._urls(), project={"id": project})
        return self._sessions[project]

    def _admin(self) -> Session:
        return self._session(self._endpoints["project_id"])

    def _role(self, name: str) -> str:
        role = self._admin().find("identity", "/roles", "roles", name=name)
        if role is None:
            raise TestbedError(f"Keystone has no role {name!r}")
        return str(role["id"])

    def _create(self, kind: str, body: Json) -> Json:
        made: Json = self._admin().call("POST", "network", f"/v2.0/{kind}s", {kind: body})[kind]
        return made

    def _get(self, kind: str, identifier: str) -> Json:
        found: Json = self._admin().call("GET", "network", f"/v2.0/{kind}s/{identifier}")[kind]
        return found

    def _delete(self, kind: str, identifier: str) -> Json:
        self._admin().call("DELETE", "network", f"/v2.0/{kind}s/{identifier}")
        return {kind: identifier}


COMMANDS: dict[str, Callable[..., Json]] = {
    name.replace("_", "-"): function
    for name, function in inspect.getmembers(Commands, inspect.isfunction)
    if not name.startswith("_")
}
"""What does each command, by its name as `server-create`."""


def perform(commands: Commands, name: str, arguments: Json) -> Json:
    """Runs a command by its name."""
    function = COMMANDS.get(name)
    if function is None:
        raise TestbedError(f"no command {name!r}; there are {', '.join(COMMANDS)}")
    try:
        inspect.signature(function).bind(commands, **arguments)
    except TypeError as error:
        raise TestbedError(f"{name}: {error}") from None
    return function(commands, **arguments)
