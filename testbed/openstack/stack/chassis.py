"""Stands in for ovn-controller on the one hypervisor: claims the ports that Neutron bound to it, so they become ACTIVE.

Runs in the virtual environment, as `python chassis.py SOCKET HOST HOLD-FOLDER`, and reacts to the southbound
database's own notifications. A port with a file of its name in the hold folder is not claimed, or given back: DOWN.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from ovs import poller
from ovs.db import idl

SCHEMA = "/usr/share/ovn/ovn-sb.ovsschema"
# The hold folder does not announce its changes; this is how late one may be seen.
HOLD_POLL_MILLISECONDS = 100

COLUMNS = {
    "SB_Global": ["nb_cfg"],
    "Encap": ["type", "ip", "chassis_name"],
    "Chassis": ["name", "hostname", "encaps"],
    "Chassis_Private": ["name", "chassis", "nb_cfg", "nb_cfg_timestamp"],
    "Port_Binding": ["logical_port", "chassis", "requested_chassis", "up"],
}


class Chassis:
    """One chassis in a replica of the southbound database."""

    def __init__(self, socket: str, host: str, hold: Path) -> None:
        schema = idl.SchemaHelper(location=SCHEMA)
        for table, columns in COLUMNS.items():
            schema.register_columns(table, columns)
        self._idl = idl.Idl(f"unix:{socket}", schema)
        self._host = host
        self._hold = hold

    def serve(self) -> None:
        """Never returns."""
        while True:
            self._idl.run()
            if self._idl.has_ever_connected() and self._rows("SB_Global") and self._act() in RETRY:
                continue
            waiter = poller.Poller()
            self._idl.wait(waiter)
            waiter.timer_wait(HOLD_POLL_MILLISECONDS)
            waiter.block()

    def _rows(self, table: str) -> list[Any]:
        return list(self._idl.tables[table].rows.values())

    def _act(self) -> str:
        """Brings the database to what this chassis would make of it; nothing is sent if nothing is to change."""
        transaction = idl.Transaction(self._idl)
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
        held = {file.name for file in self._hold.iterdir()} if self._hold.is_dir() else set()
        for port in self._rows("Port_Binding"):
            wanted = _names(port.requested_chassis, ours) and port.logical_port not in held
            claimed = _names(port.chassis, ours)
            if wanted != claimed:
                port.chassis = [ours] if wanted else []
                port.up = [wanted]
                print(f"{port.logical_port} {'claimed' if wanted else 'released'}", flush=True)
        return self._commit(transaction)

    def _register(self, transaction: idl.Transaction) -> None:
        encap = transaction.insert(self._idl.tables["Encap"])
        encap.type, encap.ip, encap.chassis_name = "geneve", "127.0.0.1", self._host
        chassis = transaction.insert(self._idl.tables["Chassis"])
        chassis.name = chassis.hostname = self._host
        chassis.encaps = [encap]
        private = transaction.insert(self._idl.tables["Chassis_Private"])
        private.name = self._host
        private.chassis = [chassis]

    @staticmethod
    def _commit(transaction: idl.Transaction) -> str:
        status: str = transaction.commit_block()
        if status not in (idl.Transaction.SUCCESS, idl.Transaction.UNCHANGED, *RETRY):
            print(f"transaction: {status} {transaction.get_error()}", flush=True)
        return status


def _names(column: list[Any], row: Any) -> bool:
    return [each.uuid for each in column] == [row.uuid]


RETRY = (idl.Transaction.TRY_AGAIN, idl.Transaction.NOT_LOCKED)


if __name__ == "__main__":
    Chassis(sys.argv[1], sys.argv[2], Path(sys.argv[3])).serve()
