"""Become another program, but never outlive the stack: the last step before `exec` of every child.

Run as a plain file (`python -I -S launch.py PARENT DEATH_SIGNAL USER CAPABILITIES PROGRAM ARGUMENT…`).
It is a program of its own, not a `preexec_fn`, because the stack has threads and Python code between fork
and exec may deadlock there. USER `-` keeps the user; CAPABILITIES is a comma-separated list or `-`.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1
PR_SET_SECUREBITS = 28
SECBIT_NO_SETUID_FIXUP = 1 << 2
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAPABILITY_VERSION_3 = 0x20080522

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def keep_capabilities(numbers: list[int]) -> None:
    """Keep these (all below 32) across exec; drop every other."""
    mask = sum(1 << number for number in numbers)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    effective_permitted_inheritable = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
    checked(libc.capset(header, effective_permitted_inheritable))
    for number in numbers:
        checked(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0))


def drop_privileges(user: str, capabilities: list[int]) -> None:
    entry = pwd.getpwnam(user)
    if capabilities:
        # Keeps capabilities across setuid, and lets access(2) honour them, which Postgres asks first.
        checked(libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0))
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    if capabilities:
        keep_capabilities(capabilities)


def main() -> None:
    parent, death_signal, user, capabilities, *command = sys.argv[1:]
    if user != "-":
        drop_privileges(user, [] if capabilities == "-" else [int(n) for n in capabilities.split(",")])
    # After the change of user, which clears it.
    checked(libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0))
    if os.getppid() != int(parent):
        sys.exit("The stack ended while this process was starting.")
    os.execv(command[0], command)  # noqa: S606 - the point of this program


if __name__ == "__main__":
    main()
