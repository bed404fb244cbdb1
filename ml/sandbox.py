"""What a child process may do, enforced by the kernel: own user, no new privileges, no network, no strangers' files.

Every child that handles what users sent, or what was made of it, calls ``confine`` before it reads any of it. Layers:

- a user id of its own where the parent is root (``USERS``), without capabilities;
- ``no_new_privs``, and a seccomp filter that refuses sockets, other processes' memory, new processes, mounts, links;
- Landlock (Linux 5.13), which limits files to named folders. Where the kernel lacks it, a child that can load all code
  beforehand (``load``) may open no file afterwards: what it reads comes as an open descriptor.
- Landlock does not see who only asks whether there is a file: ``NAMELESS`` children have loaded all code before, on any
  kernel, and the filter refuses every call that takes the name of a file.

Each layer is left out where the kernel or the machine does not have it; ``Confinement`` says which apply, and
``python -m ml.sandbox`` prints it. Linux on x86-64 and aarch64.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import stat
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: User and group ids of the children, by what they do; they need no entry in /etc/passwd. Children of one kind share
#: theirs, so that none can reach into one of another kind; kinds are apart from all services of the machine.
USERS = {
    "decoder": 64801,
    "examiner": 64802,
    "table": 64803,
    "index": 64804,
    "map": 64805,
    "trainer": 64806,
    "document": 64807,
}

#: Kinds that read what they are given open and need no other file: names of files are nothing to them. (A table may
#: name any time zone, which is a file.)
NAMELESS = frozenset({"decoder"})

#: What a child sees of its parent's environment; everything else (secrets, addresses of databases) stays outside.
KEPT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ", "OPENBLAS_CORETYPE")

# linux/prctl.h, linux/capability.h
PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 8, 38, 22
CAPABILITY_VERSION_3, CAP_DAC_READ_SEARCH, CAP_SYS_NICE = 0x20080522, 2, 23

libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Confinement:
    """Which layers apply. ``uid``: the user that it changed to, None where it kept its own. ``landlock``: the version
    of its interface, 0 where the kernel has none. ``opens``: whether files can be opened at all. ``names``: whether
    the kernel answers questions about names of files."""

    uid: int | None
    no_new_privs: bool
    seccomp: bool
    landlock: int
    opens: bool
    names: bool


def environment(*names: str, **values: str) -> dict[str, str]:
    """A child's whole environment: ``KEPT``, further ``names`` of this process's, and ``values``."""
    python = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONSAFEPATH": "1"}
    # Its user has no entry in /etc/passwd, where libraries would look for these.
    named = {"LOGNAME": "crosslight", "HOME": str(Path("~").expanduser())}
    return kept(*KEPT, *names) | python | named | values


def kept(*names: str) -> dict[str, str]:
    """These variables of this process's environment, as far as they are set."""
    return {name: os.environ[name] for name in names if name in os.environ}


def confine(
    kind: str,
    *,
    read: Iterable[Path] = (),
    write: Iterable[Path] = (),
    load: Callable[[], None] | None = None,
    gpu: bool = False,
    several: bool = False,
) -> Confinement:
    """Limit this process, for good: libraries and ``read`` may be read, ``write`` is its own, nothing else.

    To be called while it has one thread. ``load`` opens whatever will be needed, where no file can be opened
    afterwards; ``NAMELESS`` kinds have done so before. ``gpu`` allows the devices of graphics cards; ``several``
    programs and sockets, for the processes of one training, which are limited as this one is.
    """
    read, written, nameless = list(read), list(write), kind in NAMELESS
    version = landlock_version()
    opens = not nameless and (bool(version) or load is None)
    if not opens and load is not None:
        load()
    readable = [*libraries(), *read] if opens else []
    rules = _rules(version, readable, written, gpu) if version else None
    uid = _change_user(USERS[kind], opens and _needs_search(read, written), written, gpu)
    privileges = libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    if rules is not None:
        if libc.syscall(LANDLOCK_RESTRICT_SELF, rules, 0):
            version = 0
        os.close(rules)
    refused = {*ALWAYS, *ATTRIBUTES}
    refused |= set() if several else {*SOCKETS, *PROGRAMS}
    refused |= set() if written else set(CHANGES)
    refused |= set() if opens else set(OPENS)
    refused |= set(LOOKUPS) if nameless else set()
    filtered = _filter_calls(refused, alone=not several)
    return Confinement(uid, privileges, filtered, version, opens, not (nameless and filtered))


def describe(kind: str = "decoder") -> Confinement:
    """What applies to a child of this kind here: tried in a process of its own. Raises OSError, ValueError."""
    import subprocess

    done = subprocess.run(
        [sys.executable, "-m", "ml.sandbox", kind],
        cwd="/",
        env=environment(),
        capture_output=True,
        timeout=20,
        check=False,
    )
    return Confinement(**json.loads(done.stdout))


@contextmanager
def without_realtime() -> Iterator[None]:
    """In the block neither this thread nor those that it starts can be given real-time scheduling.

    SVT-AV1 asks for it where it runs as root (`pthread_setschedparam`, SCHED_FIFO, 99), for the thread that calls it as
    well. That thread would keep it, and with it every process that it starts later, before all else of the machine.
    """
    header, held = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(header, held):
        yield
        return
    lowered = (ctypes.c_uint32 * 6)(*held)
    lowered[0] &= ~(1 << CAP_SYS_NICE)  # effective; what is permitted stays, to be taken up again
    libc.capset(header, lowered)
    try:
        yield
    finally:
        libc.capset(header, held)


# --- Its user, and the folders that it writes -------------------------------------------------------------


@contextmanager
def taken_back(folders: Sequence[Path]) -> Iterator[None]:
    """After the block the folders, which a child in it made its own, belong to this process's user again."""
    try:
        yield
    finally:
        for folder in folders if os.geteuid() == 0 else ():
            with suppress(FileNotFoundError):
                give(folder, 0)


def give(folder: Path, uid: int) -> None:
    """Make ``uid`` the owner of a folder and of its files; follows no link, and leaves files with other names alone."""
    for _, _, names, at in os.fwalk(folder, follow_symlinks=False):
        os.fchown(at, uid, uid)
        for name in names:
            with suppress(FileNotFoundError):
                found = os.stat(name, dir_fd=at, follow_symlinks=False)
                if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
                    os.chown(name, uid, uid, dir_fd=at, follow_symlinks=False)


def _change_user(uid: int, search: bool, folders: Iterable[Path], gpu: bool) -> int | None:
    """Become ``uid`` where this process is root, take the folders along, and drop all rights beyond those of a user.

    With ``search`` it goes on reading what is root's only, as a Python below /root is: Landlock says which; without it
    that is still less than root.
    """
    changed: int | None = None
    if os.geteuid() == 0 and _mapped(uid):
        with suppress(OSError):
            for folder in folders:
                give(folder, uid)
            libc.prctl(PR_SET_KEEPCAPS, int(search), 0, 0, 0)
            os.setgroups(_device_groups() if gpu else [])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            changed = uid
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    for mask in (1 << CAP_DAC_READ_SEARCH if search else 0, 0):
        # The second time where it never had the first.
        if libc.capset(header, (ctypes.c_uint32 * 6)(mask, mask, 0, 0, 0, 0)) == 0:
            break
    return changed


def _mapped(uid: int) -> bool:
    """Whether the id exists in this user namespace: containers without root's help map few."""
    try:
        lines = Path("/proc/self/uid_map").read_text().splitlines()
    except OSError:
        return True
    return any(int(first) <= uid < int(first) + int(count) for first, _, count in map(str.split, lines))


def _needs_search(read: Iterable[Path], write: Iterable[Path]) -> bool:
    """Whether a folder that the child has to reach is closed to users without a name."""
    wanted = [Path(sys.prefix), Path(sys.base_prefix), ROOT / "ml", *read]
    wanted += [folder.parent for folder in write]
    return not all(_is_open(folder.resolve()) for folder in wanted if folder.exists())


def _is_open(path: Path) -> bool:
    if not all(folder.stat().st_mode & stat.S_IXOTH for folder in path.parents):
        return False
    needed = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
    return path.stat().st_mode & needed == needed


# --- Landlock ---------------------------------------------------------------------------------------------

# linux/landlock.h; the numbers of its calls are the same on all machines.
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
MAKE_SOCK, MAKE_FIFO = 1 << 9, 1 << 10
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
READING = READ_FILE | READ_DIR
WRITING = READING | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER | TRUNCATE
DEVICE = READING | WRITE_FILE | IOCTL_DEV
#: How many kinds of access each version knows.
HANDLED = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}

SYSTEM: tuple[str, ...] = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/share/zoneinfo",
    "/etc/localtime",
)
SYSTEM += ("/etc/ld.so.cache", "/dev/zero", "/dev/urandom", "/dev/random", "/proc/self", "/proc/cpuinfo")
SYSTEM += ("/proc/meminfo", "/proc/stat", "/proc/sys/vm", "/proc/sys/kernel/osrelease", "/sys/devices/system")
GPU_READ: tuple[str, ...] = (
    "/proc/driver/nvidia",
    "/proc/devices",
    "/sys/bus/pci",
    "/sys/class",
    "/sys/devices",
    "/sys/module",
)
GPU_READ += ("/usr/share", "/etc/vulkan", "/etc/OpenCL", "/usr/local/cuda", "/opt/rocm")


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = [("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def landlock_version() -> int:
    """The kernel's version of Landlock's interface, 0 where it is absent or switched off."""
    if platform.system() != "Linux":
        return 0
    return max(0, libc.syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), 1))


def libraries() -> list[Path]:
    """Where programs, Python and this code lie, and what libraries ask the kernel about the machine."""
    own = [Path(sys.prefix), Path(sys.base_prefix), ROOT / "ml", *map(Path, SYSTEM)]
    # Neither the root of the code, below which data lie, nor relative places.
    own += [path for path in map(Path, sys.path) if path.is_absolute() and not ROOT.is_relative_to(path)]
    named = map(Path, os.environ.get("LD_LIBRARY_PATH", "").split(":"))
    return own + [path for path in named if path.is_absolute() and path != Path("/")]


def _rules(version: int, read: Iterable[Path], write: Iterable[Path], gpu: bool) -> int | None:
    """The descriptor of a set of rules; None where the kernel does not take it."""
    known = (1 << HANDLED.get(version, 16)) - 1
    attributes = _Ruleset(known, 0, 0b11 if version >= 6 else 0)  # abstract sockets and signals of others
    size = ctypes.sizeof(_Ruleset) if version >= 6 else 16 if version >= 4 else 8
    rules = libc.syscall(LANDLOCK_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), 0)
    if rules < 0:
        return None
    for path in read:
        _allow(rules, path, READING & known)
    for path in write:
        _allow(rules, path, WRITING & known)
    _allow(rules, Path("/dev/null"), (READ_FILE | WRITE_FILE) & known)
    if gpu:
        for path in map(Path, GPU_READ):
            _allow(rules, path, READING & known)
        for path in _devices():
            _allow(rules, path, DEVICE & known)
        _allow(rules, Path("/dev/shm"), WRITING & known)  # noqa: S108 - a right, not a name for a file
        _allow(rules, Path("/proc/self/task"), (READING | WRITE_FILE) & known)  # the driver names its threads
    return int(rules)


def _allow(rules: int, path: Path, access: int) -> None:
    try:
        at = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(at).st_mode):
            access &= READ_FILE | WRITE_FILE | TRUNCATE | IOCTL_DEV
        rule = _Beneath(access, at)
        libc.syscall(LANDLOCK_ADD_RULE, rules, 1, ctypes.byref(rule), 0)
    finally:
        os.close(at)


def _devices() -> list[Path]:
    found = [Path("/dev/dri"), Path("/dev/kfd"), Path("/dev/nvidia-caps"), *Path("/dev").glob("nvidia*")]
    return [path for path in found if path.exists()]


def _device_groups() -> list[int]:
    """The groups of graphics cards that not everybody may use."""
    nodes = [node for path in _devices() for node in ([path] if not path.is_dir() else path.iterdir())]
    states = [node.stat() for node in nodes]
    return sorted({state.st_gid for state in states if not state.st_mode & stat.S_IROTH} - {0})


# --- seccomp ----------------------------------------------------------------------------------------------

# linux/seccomp.h, linux/bpf_common.h
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
LOAD, JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, JUMP_IF_SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER_AT, ARCH_AT, FIRST_ARGUMENT_AT = 0, 4, 16
X32, CLONE_THREAD = 0x40000000, 0x00010000
SET_MODE_FILTER, TO_ALL_THREADS = 1, 1

#: By machine: audit architecture, number of seccomp(2), and which of the two columns below is its.
MACHINES = {"x86_64": (0xC000003E, 317, 0), "aarch64": (0xC00000B7, 277, 1)}

# Numbers of calls on x86-64 and aarch64, from the kernel's unistd.h; None where there is no such call.
Numbers = dict[str, tuple[int | None, int | None]]

#: What no child needs: other processes, rings of calls that no filter sees, mounts and namespaces, the kernel's own
#: matters, files by handle, and names that lead to other files.
ALWAYS: Numbers = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "fanotify_init": (300, 262),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "link": (86, None),
    "linkat": (265, 37),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "mknod": (133, None),
    "mknodat": (259, 33),
}
SOCKETS: Numbers = {
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
}
PROGRAMS: Numbers = {
    "execve": (59, 221),
    "execveat": (322, 281),
    "fork": (57, None),
    "vfork": (58, None),
}
#: Modes, owners, times and attributes of names: Landlock does not see these.
ATTRIBUTES: Numbers = {
    "chmod": (90, None),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
}
#: For children that write nothing.
CHANGES: Numbers = {
    "creat": (85, None),
    "truncate": (76, 45),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "rmdir": (84, None),
}
#: For children that have loaded everything and get what they read as descriptors.
OPENS: Numbers = {"open": (2, None), "openat": (257, 56), "openat2": (437, 437)}
#: For children that need to know nothing about names either. Some of these also answer for an open descriptor, by an
#: empty name, which a filter cannot tell from any other: they are refused whole, and fstat is what remains.
LOOKUPS: Numbers = {
    "stat": (4, None),
    "lstat": (6, None),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "statfs": (137, 43),
    "getxattr": (191, 8),
    "lgetxattr": (192, 9),
    "getxattrat": (464, 464),
    "listxattr": (194, 11),
    "llistxattr": (195, 12),
    "listxattrat": (465, 465),
    "chdir": (80, 49),
    "inotify_add_watch": (254, 27),
    "uselib": (134, None),
    "quotactl": (179, 60),
    "file_getattr": (468, 468),
    "file_setattr": (469, 469),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "open_tree_attr": (467, 467),
}
#: Their first argument is the process that they act upon: only itself is allowed.
ON_PROCESSES: Numbers = {
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
}
#: The same, and 0 means itself.
ON_ITSELF: Numbers = {"prlimit64": (302, 261)}
CLONE, CLONE3 = (56, 220), 435
NUMBERS: Numbers = ALWAYS | ATTRIBUTES | SOCKETS | PROGRAMS | CHANGES | OPENS | LOOKUPS


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def _filter_calls(names: Iterable[str], alone: bool) -> bool:
    """Refuse (EACCES) these calls in all threads, for good; ``alone``: also new processes and signals to others."""
    machine = MACHINES.get(platform.machine())
    if platform.system() != "Linux" or machine is None:
        return False
    architecture, seccomp, column = machine
    numbers = sorted({number for name in names if (number := NUMBERS[name][column]) is not None})
    own: dict[int, tuple[int, ...]] = {}
    if alone:
        own |= {number: (os.getpid(),) for pair in ON_PROCESSES.values() if (number := pair[column])}
        own |= {number: (os.getpid(), 0) for pair in ON_ITSELF.values() if (number := pair[column])}
    code = filter_program(architecture, numbers, own, CLONE[column] if alone else None)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    if libc.syscall(seccomp, SET_MODE_FILTER, TO_ALL_THREADS, ctypes.byref(program)) == 0:
        return True
    return libc.prctl(PR_SET_SECCOMP, 2, ctypes.byref(program), 0, 0) == 0


def filter_program(
    architecture: int, refused: Sequence[int], own: Mapping[int, Sequence[int]], clone: int | None
) -> bytes:
    """Classic BPF over struct seccomp_data. Calls of another architecture (and x32's) are ``refused``, too.

    ``own``: calls that are allowed with one of these values as first argument; ``clone``: the call that is allowed to
    make threads only.
    """
    refuse, absent = (RETURN, 0, 0, ERRNO | errno.EACCES), (RETURN, 0, 0, ERRNO | errno.ENOSYS)
    allow = (RETURN, 0, 0, ALLOW)
    steps = [(LOAD, 0, 0, ARCH_AT), (JUMP_IF_EQUAL, 1, 0, architecture), refuse, (LOAD, 0, 0, NUMBER_AT)]
    steps += [(JUMP_IF_AT_LEAST, 0, 1, X32), refuse]
    for number in refused:
        steps += [(JUMP_IF_EQUAL, 0, 1, number), refuse]
    for number, values in own.items():
        checks = [(JUMP_IF_EQUAL, len(values) - at, 0, value) for at, value in enumerate(values)]
        steps += [(JUMP_IF_EQUAL, 0, len(values) + 3, number), (LOAD, 0, 0, FIRST_ARGUMENT_AT), *checks]
        steps += [refuse, allow]
    if clone is not None:
        steps += [(JUMP_IF_EQUAL, 0, 4, clone), (LOAD, 0, 0, FIRST_ARGUMENT_AT)]
        steps += [(JUMP_IF_SET, 0, 1, CLONE_THREAD), allow, refuse]
        # Its flags lie behind a pointer, which a filter cannot follow; the C library falls back to clone.
        steps += [(JUMP_IF_EQUAL, 0, 1, CLONE3), absent]
    steps.append(allow)
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def main(kind: str) -> None:
    """Print what ``confine`` reached."""
    sys.stdout.write(json.dumps(asdict(confine(kind, load=lambda: None))) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
