"""`python -m standalone run | services | prepare`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from standalone.config import APP_PROCESSES, StackConfig
from standalone.errors import StackError
from standalone.runner import Plan, prepare_only, run


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m standalone", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    whole = commands.add_parser("run", help="the whole stack, in the foreground")
    whole.add_argument("--only", help=f"comma-separated, of: {', '.join(APP_PROCESSES)}")
    services = commands.add_parser("services", help="Postgres and Valkey only, migrated")
    services.add_argument("--throwaway", action="store_true", help="an empty database, unsafe and fast")
    commands.add_parser("prepare", help="front end and models only")
    return parser.parse_args(arguments)


def chosen(only: str | None) -> Sequence[str]:
    names = only.split(",") if only else APP_PROCESSES
    if unknown := set(names) - set(APP_PROCESSES):
        raise StackError(
            f"No such process: {', '.join(sorted(unknown))}. There are: {', '.join(APP_PROCESSES)}."
        )
    return names


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    try:
        config = StackConfig.from_environ()
        if options.command == "prepare":
            prepare_only(config)
        elif options.command == "services":
            run(config, Plan(processes=(), throwaway=options.throwaway))
        else:
            run(config, Plan(processes=chosen(options.only)))
    except StackError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
