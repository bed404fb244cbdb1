"""`python -m standalone COMMAND`: the stack, its parts, backups; `--help` lists the commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from standalone import datadir, messages
from standalone.alone import run_alone
from standalone.backup import commands
from standalone.config import APP_PROCESSES, StackConfig
from standalone.errors import StackError
from standalone.runner import Plan, prepare_only, run


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m standalone", description=__doc__)
    subcommands = parser.add_subparsers(dest="command", required=True)
    whole = subcommands.add_parser("run", help="the whole stack, in the foreground")
    whole.add_argument("--only", help=f"comma-separated, of: {', '.join(APP_PROCESSES)}")
    alone = subcommands.add_parser("process", help="one process, on services that others run")
    alone.add_argument("name", choices=APP_PROCESSES)
    services = subcommands.add_parser("services", help="Postgres and Valkey only, migrated")
    services.add_argument("--throwaway", action="store_true", help="an empty database, unsafe and fast")
    services.add_argument("--as-is", action="store_true", help="do not migrate")
    prepare = subcommands.add_parser("prepare", help="front end and models only")
    prepare.add_argument("--without-models", action="store_true", help="the front end alone")
    subcommands.add_parser("messages", help="collect the texts to translate into the catalogues")
    subcommands.add_parser(
        "new-secret-key", help="another SECRET_KEY from the next start on; the former stays valid"
    )
    _add_backup_commands(subcommands)
    return parser.parse_args(arguments)


def _add_backup_commands(subcommands: argparse._SubParsersAction) -> None:
    backup = subcommands.add_parser(
        "backup", help="database, files and secrets, of a running stack or a stopped one"
    )
    backup.add_argument("--to", default="", help="the folder of backups; by default $DATA_DIR/backups")
    backup.add_argument(
        "--keep-days", default="", help="remove older backups there afterwards; by default BACKUP_KEEP_DAYS"
    )
    subcommands.add_parser("backup-keys", help="the keys alone, into BACKUP_KEYS_FILE: after an erasure")
    restore = subcommands.add_parser("restore", help="into an empty DATA_DIR")
    restore.add_argument("source", help="a backup, or a folder of them: the newest")
    restore.add_argument(
        "--to-time", default="", help="a moment since, such as 2026-11-30T14:05:00+00:00, or latest"
    )
    restore.add_argument("--force", action="store_true", help="move what is in DATA_DIR aside")
    verify = subcommands.add_parser("verify", help="check a backup and print its digests")
    verify.add_argument("source")
    for reading in (restore, verify):
        reading.add_argument("--unsigned", action="store_true", help="accept a backup without a signature")
    identity = subcommands.add_parser("backup-identity", help="a pair of keys for encrypted backups")
    identity.add_argument("file", help="a new file for the private one")


def chosen(only: str | None) -> Sequence[str]:
    names = only.split(",") if only else APP_PROCESSES
    if unknown := set(names) - set(APP_PROCESSES):
        raise StackError(
            f"No such process: {', '.join(sorted(unknown))}. There are: {', '.join(APP_PROCESSES)}."
        )
    return names


def execute(config: StackConfig, options: argparse.Namespace) -> int:
    match options.command:
        case "process":
            return run_alone(config, options.name)
        case "prepare":
            prepare_only(config, models=not options.without_models)
        case "messages":
            messages.main()
        case "services":
            run(config, Plan(processes=(), throwaway=options.throwaway, migrated=not options.as_is))
        case "new-secret-key":
            datadir.new_secret_key(config.data_dir)
            print("secrets.json has a new secret_key: restart, then run `manage.py rotate_keys secret-key`")
        case "backup":
            commands.backup(config, options.to, options.keep_days)
        case "backup-keys":
            commands.backup_keys(config)
        case "restore":
            given = {"force": options.force, "unsigned": options.unsigned, "to_time": options.to_time}
            commands.restore(config, options.source, **given)
        case "backup-identity":
            commands.backup_identity(options.file)
        case "verify":
            commands.verify(config, options.source, unsigned=options.unsigned)
        case _:
            run(config, Plan(processes=chosen(options.only)))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    try:
        return execute(StackConfig.from_environ(), options)
    except StackError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
