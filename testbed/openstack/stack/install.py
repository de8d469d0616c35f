"""Brings what the stack runs: Debian's MariaDB, RabbitMQ and OVN, and OpenStack from PyPI in a virtual environment."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from .layout import HERE, Layout, TestbedError
from .progress import say

UV = "uv==0.9.7"
LOCK_FILE = HERE / "requirements.lock"
POLICY = Path("/usr/sbin/policy-rc.d")
RABBITMQ_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
OVN_SCHEMAS = Path("/usr/share/ovn")
SWITCH_SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")


def install(layout: Layout, *, switch: bool) -> None:
    """Installs what is missing, a real switch if that is wanted; quick when nothing is."""
    layout.root.mkdir(parents=True, exist_ok=True)
    _debian_packages(layout, _wanted_packages() + (_packages_of_switch() if switch else []))
    _virtual_environment(layout)


def _debian_packages(layout: Layout, wanted: list[tuple[str, bool]]) -> None:
    missing = [name for name, present in wanted if not present]
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise TestbedError(f"install these Debian packages first, or run this as root: {' '.join(missing)}")
    say(f"installing Debian packages: {' '.join(missing)}")
    log = layout.root / "apt.log"
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # A package's own scripts start its service, unless this file says that no service may be started.
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        apt = ["apt-get", "-o", "DPkg::Lock::Timeout=600", "-qq"]
        _run([*apt, "update"], log, quiet)
        _run([*apt, "install", "-y", "--no-install-recommends", *missing], log, quiet)
    finally:
        if ours:
            POLICY.unlink(missing_ok=True)


def _have(*programs: str) -> bool:
    return all(shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") for program in programs)


def _packages_of_switch() -> list[tuple[str, bool]]:
    return [
        ("openvswitch-switch", _have("ovs-vswitchd", "ovs-vsctl") and SWITCH_SCHEMA.exists()),
        ("ovn-host", _have("ovn-controller")),
        ("iproute2", _have("ip")),
        ("util-linux", _have("nsenter", "unshare")),
    ]


def _wanted_packages() -> list[tuple[str, bool]]:
    # uWSGI is compiled: that takes a compiler and the headers of the very interpreter that runs it.
    headers = Path(sysconfig.get_path("include"), "Python.h").exists()
    wanted = [
        ("mariadb-server-core", _have("mariadbd", "mariadb-install-db")),
        ("mariadb-client-core", _have("mariadb")),
        ("rabbitmq-server", RABBITMQ_SERVER.exists()),
        ("ovn-central", _have("ovn-northd", "ovsdb-server", "ovsdb-tool") and OVN_SCHEMAS.is_dir()),
        ("gcc", _have("cc")),
        ("libc6-dev", Path("/usr/include/stdio.h").exists()),
        ("python3-dev", headers),
    ]
    if not shutil.which("uv"):
        # Debian keeps ensurepip, which `python -m venv` needs, in a package of its own.
        wanted.append(("python3-venv", _has_ensurepip()))
    return wanted


def _has_ensurepip() -> bool:
    return subprocess.run([sys.executable, "-m", "ensurepip", "--version"], capture_output=True).returncode == 0


def _virtual_environment(layout: Layout) -> None:
    stamp = layout.venv / "installed"
    wanted = hashlib.sha256(LOCK_FILE.read_bytes() + sys.executable.encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    log = layout.root / "pip.log"
    say(f"installing OpenStack in {layout.venv}")
    uv = shutil.which("uv") or _own_uv(layout, log)
    quiet = {**os.environ, "UV_CACHE_DIR": str(layout.root / "uv-cache")}
    _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(layout.venv)], log, quiet)
    _run(
        [uv, "pip", "sync", "--quiet", "--python", layout.program("python"), str(LOCK_FILE)],
        log,
        quiet,
    )
    stamp.write_text(wanted)
    say("OpenStack installed")


def _own_uv(layout: Layout, log: Path) -> str:
    folder = layout.root / "uv"
    if not (folder / "bin" / "uv").exists():
        _run([sys.executable, "-m", "venv", "--clear", str(folder)], log, dict(os.environ))
        _run([str(folder / "bin" / "pip"), "install", "--quiet", UV], log, dict(os.environ))
    return str(folder / "bin" / "uv")


def _run(command: list[str], log: Path, environment: dict[str, str]) -> None:
    with log.open("ab") as output:
        result = subprocess.run(
            ["nice", "-n", "10", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
        )
    if result.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        raise TestbedError(f"{' '.join(command[:3])} … failed with {result.returncode}; the end of {log}:\n{tail}")
