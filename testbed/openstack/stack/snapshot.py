"""The state just after it was made, kept so that a clean start need not make it again."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile

from . import schema
from .install import LOCK_FILE
from .layout import Layout
from .processes import Processes
from .progress import say

# RabbitMQ is left out: it makes its state faster than it is unpacked.
KEPT = ("mysql", "keys", "glance", "nova", "ovn", "made-by")
OVN_DATABASES = {"nb.db": "OVN_Northbound", "sb.db": "OVN_Southbound"}


def maker() -> str:
    """Names the programs that made a state; one made by others is of no use."""
    made_by = hashlib.sha256(LOCK_FILE.read_bytes())
    with open(schema.__file__, "rb") as file:
        made_by.update(file.read())
    return made_by.hexdigest()


def state_is_usable(layout: Layout) -> bool:
    """Whether the state was made to its end, by these programs."""
    stamp = layout.data / "made-by"
    return stamp.exists() and stamp.read_text() == maker()


def mark_state(layout: Layout) -> None:
    """Says that the state is complete."""
    (layout.data / "made-by").write_text(maker())


def save(layout: Layout, processes: Processes) -> None:
    """Keeps the state; MariaDB must be stopped, and OVN's databases served."""
    new = layout.snapshot.with_suffix(".new")
    copies = layout.temporary / "ovn"
    copies.mkdir()
    for file, database in OVN_DATABASES.items():
        with (copies / file).open("wb") as output:
            subprocess.run(
                ["ovsdb-client", "backup", f"unix:{layout.ovsdb_socket}", database],
                stdout=output,
                env=processes.environment(),
                check=True,
            )
    with tarfile.open(new, "w:gz", compresslevel=1) as archive:
        for name in KEPT:
            source = copies if name == "ovn" else layout.data / name
            if source.exists():
                archive.add(source, arcname=name)
    shutil.rmtree(copies)
    os.replace(new, layout.snapshot)
    say(f"kept the empty state, {layout.snapshot.stat().st_size / 1e6:.0f} MB")


def restore(layout: Layout) -> bool:
    """Replaces the state by the kept one; False, and no state at all, if there is none that is of use."""
    shutil.rmtree(layout.data, ignore_errors=True)
    layout.data.mkdir(parents=True)
    if not layout.snapshot.exists():
        return False
    with tarfile.open(layout.snapshot) as archive:
        archive.extractall(layout.data)
    if state_is_usable(layout):
        return True
    say("the kept state was made by other versions: making a new one")
    layout.snapshot.unlink()
    shutil.rmtree(layout.data)
    layout.data.mkdir()
    return False
