"""A process without a network, made so by the kernel: no library in it can fetch anything, whatever a file asks for."""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
# linux/seccomp.h, linux/bpf_common.h
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
LOAD, JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
NUMBER_AT, ARCH_AT, FIRST_ARGUMENT_AT = 0, 4, 16
AF_UNIX = 1
X32, IO_URING_SETUP = 0x40000000, 425
#: Audit architecture and number of socket(2).
MACHINES = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def forbid_network() -> bool:
    """Refuse (EACCES) every new socket but local ones, for this process and its children, for good.

    False where the machine is not known or the kernel does not filter: then the caller's own settings must do.
    """
    machine = MACHINES.get(platform.machine())
    if platform.system() != "Linux" or machine is None:
        return False
    code = _filter(*machine)
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return False
    return libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) == 0


def _filter(architecture: int, socket: int) -> bytes:
    """Classic BPF over struct seccomp_data: another architecture's calls and foreign sockets are refused."""
    steps = (
        (LOAD, 0, 0, ARCH_AT),
        (JUMP_IF_EQUAL, 0, 7, architecture),
        (LOAD, 0, 0, NUMBER_AT),
        # The x32 calls of x86-64, and rings of calls that no filter sees.
        (JUMP_IF_AT_LEAST, 5, 0, X32),
        (JUMP_IF_EQUAL, 4, 0, IO_URING_SETUP),
        (JUMP_IF_EQUAL, 0, 2, socket),
        (LOAD, 0, 0, FIRST_ARGUMENT_AT),
        (JUMP_IF_EQUAL, 0, 1, AF_UNIX),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, ERRNO | errno.EACCES),
    )
    return b"".join(struct.pack("HBBI", *step) for step in steps)
