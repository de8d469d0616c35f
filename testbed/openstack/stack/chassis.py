"""Stands in for ovn-controller on the one hypervisor: claims the ports that Neutron bound to it, so they become ACTIVE.

Runs in the virtual environment, as `python chassis.py SOCKET HOST PLUGGED-FOLDER HOLD-FOLDER`, and reacts to the
databases' own notifications. A port is claimed once the hypervisor has plugged it, which it says by a file of the
port's name in the plugged folder. One with a file of its name in the hold folder is not claimed, or given back: DOWN.

ovn-controller, too, claims no port before there is an interface of it in Open vSwitch, and Neutron relies on that: if
a port is reported up while the request that binds it is still worked on, that request may wait 4.5 s for its own
binding, give up, and leave the port DOWN for ever (`_port_provisioned` of Neutron's ML2 plugin, called by way of
`_notify_dhcp_updated` of its OVN driver).
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from ovs import poller
from ovs.db import idl

SCHEMAS = Path("/usr/share/ovn")
# The folders do not announce their changes; this is how late one may be seen.
FOLDER_POLL_MILLISECONDS = 100

NORTHBOUND = {"Logical_Switch_Port": ["name", "up"]}
SOUTHBOUND = {
    "SB_Global": ["nb_cfg"],
    "Encap": ["type", "ip", "chassis_name"],
    "Chassis": ["name", "hostname", "encaps"],
    "Chassis_Private": ["name", "chassis", "nb_cfg", "nb_cfg_timestamp"],
    "Port_Binding": ["logical_port", "chassis", "requested_chassis", "parent_port", "up"],
}


class Chassis:
    """One chassis in replicas of OVN's databases."""

    def __init__(self, socket: str, host: str, plugged: Path, hold: Path) -> None:
        self._northbound = _replica(socket, "ovn-nb.ovsschema", NORTHBOUND)
        self._southbound = _replica(socket, "ovn-sb.ovsschema", SOUTHBOUND)
        self._host = host
        self._plugged = plugged
        self._hold = hold
        self._claimed_plugs: dict[str, int] = {}

    def serve(self) -> None:
        """Never returns."""
        replicas = (self._northbound, self._southbound)
        while True:
            for replica in replicas:
                replica.run()
            connected = all(replica.has_ever_connected() for replica in replicas)
            if connected and self._rows("SB_Global") and self._act() in RETRY:
                continue
            waiter = poller.Poller()
            for replica in replicas:
                replica.wait(waiter)
            waiter.timer_wait(FOLDER_POLL_MILLISECONDS)
            waiter.block()

    def _rows(self, table: str) -> list[Any]:
        return list(self._southbound.tables[table].rows.values())

    def _act(self) -> str:
        """Brings the database to what this chassis would make of it; nothing is sent if nothing is to change."""
        transaction = idl.Transaction(self._southbound)
        ours = next((row for row in self._rows("Chassis") if row.name == self._host), None)
        if ours is None:
            self._register(transaction)
            return self._commit(transaction)
        # Neutron counts a chassis as alive that repeats the number of the newest configuration.
        newest = self._rows("SB_Global")[0].nb_cfg
        for private in self._rows("Chassis_Private"):
            if private.name == self._host and private.nb_cfg != newest:
                private.nb_cfg = newest
                private.nb_cfg_timestamp = int(time.time() * 1000)
        plugs, held, up = _files(self._plugged), _files(self._hold), self._up()
        for port in self._rows("Port_Binding"):
            name = port.logical_port
            # A trunk's subport has no interface of its own.
            plug = plugs.get(next(iter(port.parent_port), name))
            wanted = plug is not None and name not in held and _names(port.requested_chassis, ours)
            claimed = _names(port.chassis, ours)
            if wanted and claimed and self._claimed_plugs.setdefault(name, plug) != plug:
                # Unplugged and plugged again between two looks: Neutron waits for it to go down and come up.
                wanted = False
            if wanted and not claimed:
                if name in up:
                    # ovn-northd has not passed on yet that the port was given back, and would never do so.
                    continue
                self._claimed_plugs[name] = plug
            if wanted != claimed:
                port.chassis = [ours] if wanted else []
                port.up = [wanted]
                print(f"{_now()} {name} {'claimed' if wanted else 'released'}", flush=True)
        return self._commit(transaction)

    def _up(self) -> set[str]:
        """The ports that are up for Neutron."""
        ports = self._northbound.tables["Logical_Switch_Port"].rows.values()
        return {port.name for port in ports if port.up == [True]}

    def _register(self, transaction: idl.Transaction) -> None:
        encap = transaction.insert(self._southbound.tables["Encap"])
        encap.type, encap.ip, encap.chassis_name = "geneve", "127.0.0.1", self._host
        chassis = transaction.insert(self._southbound.tables["Chassis"])
        chassis.name = chassis.hostname = self._host
        chassis.encaps = [encap]
        private = transaction.insert(self._southbound.tables["Chassis_Private"])
        private.name = self._host
        private.chassis = [chassis]

    @staticmethod
    def _commit(transaction: idl.Transaction) -> str:
        status: str = transaction.commit_block()
        if status not in (idl.Transaction.SUCCESS, idl.Transaction.UNCHANGED, *RETRY):
            # The next look finds the same to do.
            print(f"{_now()} transaction: {status} {transaction.get_error()}", flush=True)
        return status


def _replica(socket: str, schema_file: str, tables: dict[str, list[str]]) -> idl.Idl:
    schema = idl.SchemaHelper(location=str(SCHEMAS / schema_file))
    for table, columns in tables.items():
        schema.register_columns(table, columns)
    return idl.Idl(f"unix:{socket}", schema)


def _files(folder: Path) -> dict[str, int]:
    """The names in a folder, with the time when each was made, in nanoseconds."""
    found: dict[str, int] = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                found[entry.name] = entry.stat().st_mtime_ns
    return found


def _now() -> str:
    return datetime.now().isoformat(sep=" ", timespec="milliseconds")


def _names(column: list[Any], row: Any) -> bool:
    return [each.uuid for each in column] == [row.uuid]


RETRY = (idl.Transaction.TRY_AGAIN, idl.Transaction.NOT_LOCKED)


if __name__ == "__main__":
    Chassis(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])).serve()
