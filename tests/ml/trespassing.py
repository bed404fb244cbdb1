"""Children that were taken over: each runs as it does in the product, and does what it must not be able to do.

``python -m tests.ml.trespassing KIND [without-landlock] ARGUMENT…`` is the child of that kind but for what it does with
its input: it tries every act and tells what came of it, "done" or the name of the error.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from ml import sandbox

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, AT_EMPTY_PATH = -100, 0x1000


def call(name: str, *arguments: Any) -> Callable[[], None]:
    """A call of the kernel by its name, as a sandboxed library could make it."""
    column = sandbox.MACHINES[platform.machine()][2]
    number = (sandbox.NUMBERS | sandbox.ON_PROCESSES | {"clone3": (sandbox.CLONE3, sandbox.CLONE3)})[name]

    def act() -> None:
        if libc.syscall(number[column], *arguments) < 0:
            raise OSError(ctypes.get_errno(), "")

    return act


def _fork() -> None:
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)


def acts(secret: str) -> dict[str, Callable[[], Any]]:
    """`secret`: a file that everybody may read, outside of every child's folders."""
    folder = Path(secret).parent
    return {
        "read a file": lambda: Path(secret).read_bytes(),
        "list a folder": lambda: list(folder.iterdir()),
        "read the passwords": lambda: Path("/etc/passwd").read_bytes(),
        "read the parent's environment": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
        "read the parent's descriptors": lambda: list(Path(f"/proc/{os.getppid()}/fd").iterdir()),
        "write a file": lambda: (folder / "new").write_bytes(b"x"),
        "write over a file": lambda: Path(secret).open("r+b").close(),
        "remove a file": lambda: Path(secret).unlink(),
        "make a folder": lambda: (folder / "made").mkdir(),
        "link to a file": lambda: (folder / "link").symlink_to(secret),
        "change a file's mode": lambda: Path(secret).chmod(0o666),
        "open a connection": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        "open a local socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
        "open a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        "run a program": lambda: os.execv("/bin/true", ["true"]),
        "run a program by descriptor": call("execveat", AT_FDCWD, b"/bin/true", None, None, 0),
        "fork": _fork,
        "clone3": call("clone3", None, 0),
        "attach to the parent": call("ptrace", 16, os.getppid(), None, None),
        "read the parent's memory": call("process_vm_readv", os.getppid(), None, 0, None, 0, 0),
        "write the parent's memory": call("process_vm_writev", os.getppid(), None, 0, None, 0, 0),
        "take the parent's descriptor": call("pidfd_open", os.getppid(), 0),
        "signal the parent": lambda: os.kill(os.getppid(), signal.SIGCONT),
        "signal everybody": lambda: os.kill(-1, 0),
        "signal its group": lambda: os.kill(0, signal.SIGCONT),
        "use a ring of calls": call("io_uring_setup", 1, None),
        "open by handle": call("open_by_handle_at", AT_FDCWD, None, 0),
        "mount": call("mount", b"none", b"/mnt", b"tmpfs", 0, None),
        "enter a namespace": call("unshare", 0x10000000),
        "load a program into the kernel": call("bpf", 0, None, 0),
        "become root": lambda: os.setuid(0) if os.getuid() else (_ for _ in ()).throw(PermissionError(1, "")),
    }


def lookups(secret: str) -> dict[str, Callable[[], Any]]:
    """Ways to learn whether there is a file of a name, and what of it, without opening it. Landlock sees none."""
    name, column = os.fsencode(secret), sandbox.MACHINES[platform.machine()][2]
    room = ctypes.create_string_buffer(4096)
    return {
        "stat": Path(secret).stat,
        "lstat": Path(secret).lstat,
        "statx": call("statx", AT_FDCWD, name, 0, 0x7FF, room),
        # The flag is for a descriptor with an empty name; the kernel takes it with any.
        "newfstatat": call("newfstatat", AT_FDCWD, name, room, AT_EMPTY_PATH),
        "access": lambda: os.access(secret, os.F_OK) or call("faccessat", AT_FDCWD, name, 0)(),
        "faccessat2": call("faccessat2", AT_FDCWD, name, 0, 0),
        "readlink": Path("/proc/self/exe").readlink,
        "statfs": lambda: os.statvfs(secret),
        "getxattr": lambda: os.getxattr(secret, "user.x"),
        "listxattr": lambda: os.listxattr(secret),
        "open without reading": lambda: os.close(os.open(secret, os.O_PATH)),
        "change to a folder": lambda: os.chdir(Path(secret).parent),
        "watch": lambda: _watch(name),
        "a name that is not there": Path(secret + "-not").stat,
        **(
            {"old stat": call("stat", name, room), "old access": call("access", name, 0)}
            if column == 0
            else {}
        ),
    }


def _watch(name: bytes) -> None:
    if (descriptor := libc.inotify_init()) < 0:
        raise OSError(ctypes.get_errno(), "")
    call("inotify_add_watch", descriptor, name, 0xFFF)()


def attempts(acts: dict[str, Callable[[], Any]]) -> dict[str, str]:
    told = {}
    for name, act in acts.items():
        try:
            act()
            told[name] = "done"
        except OSError as error:
            told[name] = errno.errorcode.get(error.errno or 0, str(error))
    return told


def status() -> dict[str, str]:
    lines = (line.partition(":") for line in Path("/proc/self/status").read_text().splitlines())
    return {name: value.strip() for name, _, value in lines}


def own_files(folder: Path) -> str:
    """Whether it can work in the folder that it was given."""
    try:
        (folder / "mine").write_bytes(b"x")
        (folder / "mine").rename(folder / "renamed")
        return (folder / "renamed").read_bytes().decode()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))


def tell(secret: str, folder: Path | None = None) -> dict[str, Any]:
    told: dict[str, Any] = {"acts": attempts(acts(secret)), "environment": dict(os.environ)}
    told["lookups"] = attempts(lookups(secret))
    if folder:
        told |= {"own": own_files(folder), "status": status()}
    return told


# --- The children -----------------------------------------------------------------------------------------


def decoder(memory_bytes: str) -> None:
    from ml.media import child

    decode = child._pieces

    def pieces(request: dict[str, Any]) -> Iterator[Any]:
        if "secret" not in request:
            yield from decode(request)
        else:
            yield {}, [json.dumps(tell(request["secret"])).encode()]

    child._pieces = pieces
    child.main(memory_bytes)


def examiner(*arguments: str) -> None:
    from ml.auditing import child

    child.pieces = lambda request: iter([({}, [json.dumps(tell(request["secret"])).encode()])])
    child.main(arguments)


def table(secret: str, descriptor: str, limits: str) -> None:
    # By its path, as the product runs it: its package needs Django.
    path = sandbox.ROOT / "tenants" / "datasets" / "importers" / "parquet_child.py"
    spec = spec_from_file_location("parquet_child", path)
    assert spec
    assert spec.loader
    parquet_child: Any = module_from_spec(spec)
    spec.loader.exec_module(parquet_child)

    def opened(source: Any, limits: Any) -> Any:
        raise ValueError(json.dumps(tell(secret) | {"status": status(), "own": source.read(4).decode()}))

    parquet_child._open = opened
    parquet_child._describe_error = str
    parquet_child.main(int(descriptor), json.loads(limits))


def index(secret: str, folder: str) -> int:
    from ml.indexes import build

    build._build = lambda options: tell(secret, options.folder)
    return build.main([folder, "--model", "x", "--seq", "1", "--dimension", "256"])


def map_(secret: str, folder: str) -> int:
    from ml.projection import embed

    embed._run = lambda options, report: tell(secret, options.folder)
    return embed.main([folder, "--dimension", "256"])


def trainer(secret: str, folder: str) -> int:
    from ml.training import __main__ as training
    from ml.training import run

    run.run = lambda folder, report: tell(secret, folder)
    return training.main(["run", "--confined", folder])


KINDS = {f.__name__.strip("_"): f for f in (decoder, examiner, table, index, map_, trainer)}

if __name__ == "__main__":
    kind, *rest = sys.argv[1:]
    if kind.isdigit():
        # `Child` gives the memory first.
        kind, rest = rest[0], [kind, *rest[1:]]
    if "without-landlock" in rest:
        rest.remove("without-landlock")
        sandbox.landlock_version = lambda: 0
    KINDS[kind](*rest)
