#!/usr/bin/env python3
"""Installs, starts, drives and stops a real OpenStack on the loopback interface, for tests."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from types import FrameType
from typing import NoReturn

from stack import lifecycle
from stack.commands import COMMANDS, Commands, perform
from stack.drive import drive, speak
from stack.exclusive import exclusive
from stack.install import install
from stack.layout import Layout, TestbedError


def main() -> int:
    """Runs one subcommand; 0 if it did what it says."""
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, _terminated)
    try:
        _run(arguments)
    except TestbedError as error:
        print(f"openstack: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _run(arguments: argparse.Namespace) -> None:
    layout = Layout.from_environment()
    match arguments.subcommand:
        case "status":
            speak(lifecycle.status(layout))
        case "do":
            speak(perform(Commands(layout), arguments.command, dict(arguments.argument)))
        case "commands":
            for name, function in COMMANDS.items():
                print(f"{name:30} {(function.__doc__ or '').splitlines()[0]}")
        case "drive":
            drive(Commands(layout))
        case _:
            with exclusive(layout.lock, arguments.lock_wait):
                _run_alone(layout, arguments)


def _run_alone(layout: Layout, arguments: argparse.Namespace) -> None:
    match arguments.subcommand:
        case "install":
            install(layout, switch=arguments.switch)
        case "start":
            install(layout, switch=arguments.switch)
            speak(_start(layout, arguments))
        case "stop":
            lifecycle.stop(layout)
        case "session":
            install(layout, switch=arguments.switch)
            try:
                speak({"ready": _start(layout, arguments)})
                drive(Commands(layout))
            finally:
                if not arguments.keep:
                    lifecycle.stop(layout)


def _start(layout: Layout, arguments: argparse.Namespace) -> dict[str, object]:
    fresh = arguments.fresh or arguments.subcommand == "session"
    return lifecycle.start(
        layout, fresh=fresh, anew=arguments.anew, switch=arguments.switch, token_seconds=arguments.token_seconds
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="openstack.py", description=__doc__)
    parser.add_argument(
        "--lock-wait", type=float, default=1800, metavar="SECONDS", help="wait so long for another run (%(default)s)"
    )
    subcommands = parser.add_subparsers(dest="subcommand", required=True)
    installs = subcommands.add_parser("install", help="install what is missing")
    start = subcommands.add_parser("start", help="install and start, print the endpoints as JSON")
    session = subcommands.add_parser(
        "session", help="start with an empty cloud, answer commands on standard input, stop when it ends"
    )
    session.add_argument("--keep", action="store_true", help="leave the stack running at the end")
    for each in (installs, start, session):
        each.add_argument("--switch", action="store_true", help="with Open vSwitch, so that guests have NICs")
    for each in (start, session):
        each.add_argument("--fresh", action="store_true", help="begin with an empty cloud (always so for a session)")
        each.add_argument("--anew", action="store_true", help="create the schemas again, too")
        each.add_argument(
            "--token-seconds",
            type=int,
            default=lifecycle.DEFAULT_TOKEN_SECONDS,
            metavar="SECONDS",
            help="how long a Keystone token lives (%(default)s)",
        )
    subcommands.add_parser("stop", help="stop all of it")
    subcommands.add_parser("status", help="what runs, and how much memory it takes, as JSON")
    subcommands.add_parser("drive", help="answer commands on standard input, on the running stack")
    subcommands.add_parser("commands", help="list the commands")
    do = subcommands.add_parser("do", help="run one command on the running stack")
    do.add_argument("command")
    do.add_argument("argument", nargs="*", type=_argument, metavar="NAME=VALUE", help="VALUE is JSON, or else text")
    return parser


def _argument(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _terminated(_signal: int, _frame: FrameType | None) -> NoReturn:
    # As an exception, so that a start or a session that is ended this way stops its processes.
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
