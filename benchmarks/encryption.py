"""What encrypting costs in processor time (`make bench-encryption`): stored files (storing, reading a part, a page of
thumbnails), and the files of a backup.

Embedded services of its own under $DATA_DIR/bench/encryption. Plain and encrypted take turns; the best of five counts.
"""

from __future__ import annotations

import io
import os
import random
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from _report import OUT, Report, sized
from _stack import services_in

ROUNDS = sized(5, 1)
LARGE, RANGE = sized(100 << 20, 3 << 20), 1 << 20
THUMBNAIL, PAGE = 20_000, sized(100, 3)

Times = dict[str, dict[bool, list[float]]]


def _ms(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return (time.process_time() - begun) * 1e3


def measured() -> dict[str, dict[str, float]]:
    found: Times = {}
    owner, content = uuid.uuid4(), random.Random(1).randbytes(LARGE)
    for number in range(ROUNDS):
        for encrypted in (False, True):
            for name, spent in _one(f"{owner}/bench/{number}-{encrypted}", content, encrypted).items():
                found.setdefault(name, {}).setdefault(encrypted, []).append(spent)
    return _compared(found)


def _compared(found: Times) -> dict[str, dict[str, float]]:
    best = {name: (min(spent[False]), min(spent[True])) for name, spent in found.items()}
    return {
        name: {
            "plain_ms": round(plain, 2),
            "encrypted_ms": round(sealed, 2),
            "ratio": round(sealed / plain, 2),
        }
        for name, (plain, sealed) in best.items()
    }


def _one(place: str, content: bytes, encrypted: bool) -> dict[str, float]:
    from django.test import override_settings

    from tenants.datasets import storage

    def store() -> None:
        # Uploads are hashed, too.
        stream = io.BytesIO(content)
        storage.digest(stream)
        storage.put(place, stream)

    def part() -> None:
        with storage.open_blob(place) as stream:
            stream.seek(LARGE // 2 + 12_345)
            stream.read(RANGE)

    def page() -> None:
        for index in range(PAGE):
            with storage.open_blob(f"{place}-{index}") as stream:
                stream.read()

    with override_settings(ENCRYPT_FILES=encrypted):
        spent = {f"store {LARGE >> 20} MiB, with its SHA-256": _ms(store)}
        for index in range(PAGE):
            storage.put(f"{place}-{index}", os.urandom(THUMBNAIL))
        spent["read 1 MiB inside of it"] = _ms(part)
        spent[f"read {PAGE} thumbnails of 20 kB"] = _ms(page)
        spent["read all of it, with its SHA-256"] = _ms(lambda: storage.digest(storage.open_blob(place)))
    return spent


def backups() -> dict[str, dict[str, float]]:
    """As a backup writes and a restore reads them, in the memory: what a disk takes is the same for both."""
    import pyrage

    found: Times = {}
    identity = pyrage.x25519.Identity.generate()
    content = random.Random(1).randbytes(LARGE)
    with TemporaryDirectory(dir=OUT) as folder:
        (Path(folder) / "identity").write_text(str(identity))
        for _ in range(ROUNDS):
            for encrypted in (False, True):
                recipients = [str(identity.to_public())] if encrypted else []
                for name, spent in _backup(Path(folder), content, recipients).items():
                    found.setdefault(name, {}).setdefault(encrypted, []).append(spent)
    return _compared(found)


def _backup(folder: Path, content: bytes, recipients: list[str]) -> dict[str, float]:
    from standalone.backup.encryption import Contents, Encryption
    from standalone.backup.manifest import Manifest, sha256

    encryption = Encryption(tuple(recipients))
    contents = Contents(
        folder, Manifest("", "", "", {}, {}, {}, "", recipients=recipients), str(folder / "identity")
    )

    def write(piece: bytes, times: int) -> None:
        for _ in range(times):
            with contents.path("a").open("wb") as sink:
                encryption.copy(io.BytesIO(piece), sink)

    spent = {f"back up a file of {LARGE >> 20} MiB, with its SHA-256": _ms(lambda: write(content, 1))}

    def read() -> None:
        sha256(contents.path("a"))
        with Path(os.devnull).open("wb") as nowhere:
            contents.copy("a", nowhere)

    spent["verify and read it for a restore"] = _ms(read)
    spent[f"back up {PAGE} files of 20 kB"] = _ms(lambda: write(content[:THUMBNAIL], PAGE))
    return spent


def main() -> int:
    report = Report("encryption")
    with services_in(OUT / "encryption"):
        found = {**(report.run("files", measured) or {}), **(report.run("backups", backups) or {})}
    for name, row in found.items():
        shown = f"plain {row['plain_ms']:8.2f} ms  encrypted {row['encrypted_ms']:8.2f} ms"
        print(f"{name:50}{shown}  ratio {row['ratio']:6.2f}")
    return report.finish({"files": found})


if __name__ == "__main__":
    sys.exit(main())
