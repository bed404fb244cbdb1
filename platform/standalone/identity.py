"""As whom Postgres runs: it refuses root, so a stack started by root hands it to an unprivileged user."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterable
from pathlib import Path

from standalone.errors import StackError
from standalone.processes import Identity

CANDIDATES = ("postgres", "nobody")
CAP_DAC_OVERRIDE, CAP_SETPCAP = 1, 8


def postgres_identity(paths: Iterable[Path], cluster: Path) -> Identity:
    """Whoever owns the cluster already, else the first unprivileged user of this machine.

    A checkout or data directory below a closed folder (/root) cannot be entered by that user. Instead of
    opening the folder to everybody, Postgres then keeps the one capability that lets it pass.
    """
    if os.geteuid() != 0:
        return Identity()
    user = _owner(cluster) or _first_candidate()
    if all(_may_enter(user, path) for path in paths):
        return Identity(user.pw_name)
    if not (_has_capability(CAP_DAC_OVERRIDE) and _has_capability(CAP_SETPCAP)):
        raise StackError(
            f"Postgres runs as {user.pw_name}, who cannot enter {next(iter(paths))}. Start the stack as "
            "another user than root, or move the checkout and DATA_DIR to where others may enter."
        )
    return Identity(user.pw_name, (CAP_DAC_OVERRIDE,))


def _owner(cluster: Path) -> pwd.struct_passwd | None:
    if not cluster.exists() or cluster.stat().st_uid == 0:
        return None
    return pwd.getpwuid(cluster.stat().st_uid)


def _first_candidate() -> pwd.struct_passwd:
    for name in CANDIDATES:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise StackError("Postgres refuses to run as root and this machine has neither `postgres` nor `nobody`.")


def _may_enter(user: pwd.struct_passwd, path: Path) -> bool:
    return all(_may_pass(user, folder.stat()) for folder in path.parents if folder.exists())


def _may_pass(user: pwd.struct_passwd, folder: os.stat_result) -> bool:
    if folder.st_uid == user.pw_uid:
        return bool(folder.st_mode & stat.S_IXUSR)
    if folder.st_gid == user.pw_gid:
        return bool(folder.st_mode & stat.S_IXGRP)
    return bool(folder.st_mode & stat.S_IXOTH)


def _has_capability(number: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False
