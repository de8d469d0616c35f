"""What a new stack has to be given once: databases, keys, service users, the catalog, an image and a flavor."""

from __future__ import annotations

import base64
import secrets

from .api import Json, Session
from .layout import ADMIN_PASSWORD, MEMBER_PASSWORD, REGION, SERVICE_PASSWORD, Layout
from .services import Services
from .settings import Settings

DATABASES = ("keystone", "neutron", "nova_api", "nova", "nova_cell0", "placement", "glance")
SERVICE_USERS = ("nova", "neutron", "placement", "glance")
SERVICE_NAMES = {"network": "neutron", "compute": "nova", "placement": "placement", "image": "glance"}
PROJECT = "demo"
MEMBER = "demo"
IMAGE = FLAVOR = "tiny"


class Schema:
    """One method per service, so that they can be made side by side."""

    def __init__(self, layout: Layout, settings: Settings, services: Services) -> None:
        self._layout = layout
        self._settings = settings
        self._services = services

    def databases(self) -> None:
        """The empty databases."""
        self._services.sql("".join(f"CREATE DATABASE {name} CHARACTER SET utf8mb4;" for name in DATABASES))

    def keystone(self) -> None:
        """Keystone's tables, its keys, and the administrator."""
        for kind in ("fernet", "credential"):
            repository = self._layout.data / "keys" / kind
            repository.mkdir(parents=True)
            # Keystone's own command needs 2 s to write these: "0" is staged, the highest number is the primary.
            for number in ("0", "1"):
                key = repository / number
                key.write_bytes(base64.urlsafe_b64encode(secrets.token_bytes(32)))
                key.chmod(0o600)
            repository.chmod(0o700)
        url = self._settings.service_urls()["identity"]
        config = ("--config-file", str(self._layout.settings / "keystone/keystone.conf"))
        self._run("keystone-manage", *config, "db_sync")
        self._run(
            *("keystone-manage", *config, "bootstrap", "--bootstrap-region-id", REGION),
            *("--bootstrap-password", ADMIN_PASSWORD, "--bootstrap-public-url", url),
            *("--bootstrap-internal-url", url, "--bootstrap-admin-url", url),
        )

    def neutron(self) -> None:
        """Neutron's tables."""
        folder = self._layout.settings / "neutron"
        files = ("--config-file", str(folder / "neutron.conf"), "--config-file", str(folder / "ml2.ini"))
        self._run("neutron-db-manage", *files, "upgrade", "heads")

    def placement_and_glance(self) -> None:
        """Placement's and Glance's tables."""
        folder = self._layout.settings
        self._run("placement-manage", "--config-file", str(folder / "placement/placement.conf"), "db", "sync")
        self._run("glance-manage", "--config-file", str(folder / "glance/glance-api.conf"), "db_sync")

    def nova(self) -> None:
        """Nova's tables and its two cells."""
        nova = ("nova-manage", "--config-file", str(self._layout.settings / "nova/nova.conf"))
        self._run(*nova, "api_db", "sync")
        self._run(*nova, "cell_v2", "map_cell0", "--database_connection", self._settings.database("nova_cell0"))
        # In braces: taken from the configuration at each use, since the broker's port may be another one next time.
        bus = "{scheme}://{username}:{password}@{hostname}:{port}/"
        self._run(*nova, "cell_v2", "create_cell", "--name", "cell1", "--transport-url", bus)
        self._run(*nova, "db", "sync")

    def identities(self, session: Session) -> None:
        """Service users, the catalog, and the project and user that tests may use."""
        roles = {role["name"]: role["id"] for role in session.call("GET", "identity", "/roles")["roles"]}
        project = self._create(session, "project", {"name": "service", "domain_id": "default"})
        for name in SERVICE_USERS:
            user = self._create(session, "user", _user(name, SERVICE_PASSWORD))
            for role in ("admin", "service"):
                grant(session, project["id"], user["id"], roles[role])
        for kind, url in self._settings.service_urls().items():
            if kind == "identity":
                continue
            service = self._create(session, "service", {"name": SERVICE_NAMES[kind], "type": kind})
            for interface in ("public", "internal", "admin"):
                endpoint = {"service_id": service["id"], "interface": interface, "url": url, "region_id": REGION}
                self._create(session, "endpoint", endpoint)
        demo = self._create(session, "project", {"name": PROJECT, "domain_id": "default"})
        member = self._create(session, "user", _user(MEMBER, MEMBER_PASSWORD))
        grant(session, demo["id"], member["id"], roles["member"])
        grant(session, demo["id"], session.user_id, roles["admin"])

    def image_and_flavor(self, session: Session) -> None:
        """What a server needs to be made of."""
        image = session.call(
            "POST",
            "image",
            "/v2/images",
            {"name": IMAGE, "disk_format": "raw", "container_format": "bare", "visibility": "public"},
        )
        session.call("PUT", "image", f"/v2/images/{image['id']}/file", data=bytes(1024))
        session.call("POST", "compute", "/flavors", {"flavor": {"name": FLAVOR, "ram": 64, "vcpus": 1, "disk": 1}})

    def move_catalog(self) -> None:
        """Gives the catalog the ports of this start."""
        self._services.sql(
            "".join(
                f"UPDATE keystone.endpoint e JOIN keystone.service s ON e.service_id = s.id "
                f"SET e.url = '{url}' WHERE s.type = '{kind}';"
                for kind, url in self._settings.service_urls().items()
            )
        )

    def _run(self, program: str, *arguments: str) -> None:
        self._services.processes.run(f"{program}", [self._layout.program(program), *arguments])

    @staticmethod
    def _create(session: Session, kind: str, body: Json) -> Json:
        made: Json = session.call("POST", "identity", f"/{kind}s", {kind: body})[kind]
        return made


def _user(name: str, password: str) -> Json:
    return {"name": name, "password": password, "domain_id": "default"}


def grant(session: Session, project: str, user: str, role: str) -> None:
    """Gives a user a role in a project."""
    session.call("PUT", "identity", f"/projects/{project}/users/{user}/roles/{role}")
