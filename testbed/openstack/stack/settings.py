"""The configuration files of all services."""

from __future__ import annotations

import configparser
import shutil
from collections.abc import Mapping
from pathlib import Path

from .layout import (
    COMPUTE_HOST,
    DOMAIN,
    HERE,
    LOOPBACK,
    RABBIT_PASSWORD,
    RABBIT_USER,
    REGION,
    SERVICE_PASSWORD,
    Layout,
    Ports,
)

Sections = Mapping[str, Mapping[str, object]]


class Settings:
    """What the services are told, for one choice of paths and ports."""

    def __init__(self, layout: Layout, ports: Ports, token_seconds: int) -> None:
        self._layout = layout
        self._ports = ports
        self._token_seconds = token_seconds

    def write(self) -> None:
        """Writes every file anew."""
        folder = self._layout.settings
        shutil.rmtree(folder, ignore_errors=True)
        files: dict[str, Sections] = {
            "keystone/keystone.conf": self._keystone(),
            "neutron/neutron.conf": self._neutron(),
            "neutron/ml2.ini": self._ml2(),
            "nova/nova.conf": self._nova(),
            "placement/placement.conf": self._placement(),
            "glance/glance-api.conf": self._glance(),
        }
        for name, sections in files.items():
            _write(folder / name, sections)
        # Nova's API looks for this file beside its own.
        shutil.copy(self._layout.venv / "etc/nova/api-paste.ini", folder / "nova")
        self._write_rabbitmq(folder / "rabbitmq")
        self._put_hypervisor()

    def environment(self) -> dict[str, str]:
        """How the WSGI applications find their files; they take no command line."""
        folder = self._layout.settings
        return {
            "OS_KEYSTONE_CONFIG_DIR": str(folder / "keystone"),
            "OS_KEYSTONE_CONFIG_FILES": "keystone.conf",
            "OS_NEUTRON_CONFIG_DIR": str(folder / "neutron"),
            "OS_NEUTRON_CONFIG_FILES": "neutron.conf;ml2.ini",
            "OS_NOVA_CONFIG_DIR": str(folder / "nova"),
            "OS_PLACEMENT_CONFIG_DIR": str(folder / "placement"),
            "OS_GLANCE_CONFIG_DIR": str(folder / "glance"),
        }

    def rabbitmq_environment(self) -> dict[str, str]:
        """RabbitMQ's start script is configured by its environment."""
        layout, ports = self._layout, self._ports
        return {
            "HOME": str(layout.data / "rabbitmq"),
            # Without this the script stays between us and the broker, and takes seconds to pass a signal on.
            "RUNNING_UNDER_SYSTEMD": "1",
            "RABBITMQ_NODENAME": "multinic@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
            "RABBITMQ_NODE_PORT": str(ports.rabbitmq),
            "RABBITMQ_DIST_PORT": str(ports.rabbitmq_distribution),
            "RABBITMQ_MNESIA_BASE": str(layout.data / "rabbitmq/mnesia"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_LOG_BASE": str(layout.log),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(layout.settings / "rabbitmq/enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(layout.settings / "rabbitmq/rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_EPMD_PORT": str(ports.epmd),
            # Idle schedulers that spin would take the processor from everything else.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
            ),
        }

    def service_urls(self) -> dict[str, str]:
        """The catalog: service type to URL, in the forms that OpenStack's installers give them."""
        base = f"http://{LOOPBACK}"
        return {
            "identity": f"{base}:{self._ports.keystone}/v3",
            "network": f"{base}:{self._ports.neutron}",
            "compute": f"{base}:{self._ports.nova}/v2.1",
            "placement": f"{base}:{self._ports.placement}",
            "image": f"{base}:{self._ports.glance}",
        }

    def database(self, name: str) -> str:
        """The SQLAlchemy URL of a schema."""
        return f"mysql+pymysql://root@localhost/{name}?unix_socket={self._layout.mariadb_socket}&charset=utf8mb4"

    def message_bus(self) -> str:
        """The transport URL of the broker."""
        return f"rabbit://{RABBIT_USER}:{RABBIT_PASSWORD}@{LOOPBACK}:{self._ports.rabbitmq}/"

    def _login(self, user: str) -> dict[str, object]:
        return {
            "auth_url": self.service_urls()["identity"],
            "auth_type": "password",
            "project_domain_name": DOMAIN,
            "user_domain_name": DOMAIN,
            "project_name": "service",
            "username": user,
            "password": SERVICE_PASSWORD,
        }

    def _client(self, user: str) -> dict[str, object]:
        """A section with which one service calls another."""
        return {**self._login(user), "region_name": REGION, "valid_interfaces": "internal,public"}

    def _checks_tokens(self, user: str) -> dict[str, object]:
        return {
            **self._login(user),
            "www_authenticate_uri": self.service_urls()["identity"],
            "service_token_roles": "service",
            "service_token_roles_required": True,
        }

    def _connection(self, schema: str) -> dict[str, object]:
        return {
            "connection": self.database(schema),
            "max_pool_size": 5,
            "max_overflow": 20,
            "connection_recycle_time": 600,
        }

    def _messaging(self) -> dict[str, dict[str, object]]:
        return {
            "oslo_messaging_notifications": {"driver": "messagingv2", "topics": "notifications"},
            "oslo_messaging_rabbit": {"heartbeat_timeout_threshold": 60},
            "oslo_concurrency": {"lock_path": self._layout.temporary},
        }

    def _keystone(self) -> Sections:
        keys = self._layout.data / "keys"
        return {
            "DEFAULT": {"transport_url": self.message_bus(), "notification_format": "basic"},
            "database": self._connection("keystone"),
            "token": {"provider": "fernet", "expiration": self._token_seconds},
            "fernet_tokens": {"key_repository": keys / "fernet"},
            "fernet_receipts": {"key_repository": keys / "fernet"},
            "credential": {"key_repository": keys / "credential"},
            # bcrypt's least: tests log in often, and protect nothing.
            "identity": {"password_hash_rounds": 4},
            "cache": {"enabled": True, "backend": "dogpile.cache.memory"},
            **self._messaging(),
        }

    def _neutron(self) -> Sections:
        unlimited = ("network", "subnet", "port", "router", "security_group", "security_group_rule", "trunk")
        return {
            "DEFAULT": {
                "core_plugin": "ml2",
                "service_plugins": "ovn-router,trunk,qos",
                "auth_strategy": "keystone",
                "transport_url": self.message_bus(),
                "state_path": self._layout.data / "neutron",
                "api_paste_config": self._layout.venv / "etc/neutron/api-paste.ini",
                "notify_nova_on_port_status_changes": True,
                "notify_nova_on_port_data_changes": True,
                "send_events_interval": 1,
                # Room for jumbo frames, so that a test may choose any usual MTU.
                "global_physnet_mtu": 9100,
                "dhcp_agent_notification": False,
                "rpc_workers": 0,
                "rpc_state_report_workers": 0,
                "dns_domain": "",
            },
            "quotas": {f"quota_{thing}": -1 for thing in unlimited},
            "database": self._connection("neutron"),
            "keystone_authtoken": self._checks_tokens("neutron"),
            "nova": self._client("nova"),
            "placement": self._client("placement"),
            **self._messaging(),
        }

    def _ml2(self) -> Sections:
        return {
            "ml2": {
                "mechanism_drivers": "ovn",
                "type_drivers": "geneve,flat,vlan,local",
                "tenant_network_types": "geneve",
                "extension_drivers": "port_security,qos",
                "overlay_ip_version": 4,
                "path_mtu": 9100,
            },
            "ml2_type_geneve": {"vni_ranges": "1:65536", "max_header_size": 38},
            "securitygroup": {"enable_security_group": True},
            "ovn": {
                "ovn_nb_connection": f"unix:{self._layout.ovsdb_socket}",
                "ovn_sb_connection": f"unix:{self._layout.ovsdb_socket}",
                "ovn_l3_scheduler": "leastloaded",
                "ovn_metadata_enabled": False,
            },
        }

    def _nova(self) -> Sections:
        return {
            "DEFAULT": {
                "transport_url": self.message_bus(),
                "state_path": self._layout.data / "nova",
                "my_ip": LOOPBACK,
                "host": COMPUTE_HOST,
                "compute_driver": "remembering.Driver",
                "report_interval": 2,
                "periodic_fuzzy_delay": 0,
                # The chassis is not a part of Nova's boot; a port that it holds DOWN must not fail a server.
                "vif_plugging_is_fatal": False,
                "vif_plugging_timeout": 0,
                "rpc_response_timeout": 120,
            },
            "api": {"auth_strategy": "keystone"},
            "wsgi": {"api_paste_config": self._layout.settings / "nova/api-paste.ini"},
            "api_database": self._connection("nova_api"),
            "database": self._connection("nova"),
            "keystone_authtoken": self._checks_tokens("nova"),
            "neutron": self._client("neutron"),
            "placement": self._client("placement"),
            "glance": self._client("glance"),
            "service_user": {**self._client("nova"), "send_service_user_token": True},
            "vnc": {"enabled": False},
            "spice": {"enabled": False},
            "conductor": {"workers": 1},
            "scheduler": {"workers": 1, "discover_hosts_in_cells_interval": 2},
            "filter_scheduler": {"track_instance_changes": False},
            "notifications": {"notify_on_state_change": "vm_and_task_state", "notification_format": "both"},
            "quota": {"instances": -1, "cores": -1, "ram": -1},
            **self._messaging(),
        }

    def _placement(self) -> Sections:
        return {
            "api": {"auth_strategy": "keystone"},
            "placement_database": self._connection("placement"),
            "keystone_authtoken": self._checks_tokens("placement"),
        }

    def _glance(self) -> Sections:
        folder = self._layout.data / "glance"
        return {
            "DEFAULT": {
                "transport_url": self.message_bus(),
                "enabled_backends": "files:file",
                "enabled_import_methods": "[]",
            },
            "glance_store": {"default_backend": "files"},
            "files": {"filesystem_store_datadir": folder / "images"},
            "os_glance_staging_store": {"filesystem_store_datadir": folder / "staging"},
            "os_glance_tasks_store": {"filesystem_store_datadir": folder / "tasks"},
            "paste_deploy": {
                "flavor": "keystone",
                "config_file": self._layout.venv / "etc/glance/glance-api-paste.ini",
            },
            "database": self._connection("glance"),
            "keystone_authtoken": self._checks_tokens("glance"),
            "oslo_concurrency": {"lock_path": self._layout.temporary},
        }

    def _write_rabbitmq(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "enabled_plugins").write_text("[].\n")
        lines = {
            "listeners.tcp.1": f"{LOOPBACK}:{self._ports.rabbitmq}",
            "default_user": RABBIT_USER,
            "default_pass": RABBIT_PASSWORD,
            "vm_memory_high_watermark.absolute": "512MB",
            "disk_free_limit.absolute": "200MB",
        }
        (folder / "rabbitmq.conf").write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))

    def _put_hypervisor(self) -> None:
        # Nova loads a driver from its own package only.
        for package in self._layout.venv.glob("lib/python3.*/site-packages/nova/virt"):
            shutil.copy(HERE / "stack/hypervisor.py", package / "remembering.py")


def _write(path: Path, sections: Sections) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # "DEFAULT" is a section like others here: oslo.config does not let it shine through.
    parser = configparser.RawConfigParser(default_section="")
    parser.read_dict({name: {key: str(value) for key, value in body.items()} for name, body in sections.items()})
    with path.open("w") as file:
        parser.write(file)
