"""Backup and restore of 20,000 assets, compared row by row and file by file (`make bench-restore`).

Two embedded databases of their own under $DATA_DIR/bench/restore. The assets are small texts with vectors and facets,
written as rows and files in bulk: what is measured is saving and restoring them, not embedding. COUNT=n takes others.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from _report import OUT, ROOT, TOY, Report, sized
from _stack import SHARED, start_django

from standalone.backup import manifest
from standalone.backup.database import view
from standalone.files import read_json, write_json
from standalone.stack import Stack, embedded_services, inherited

HOME = OUT / "restore"
COUNT = int(os.environ.get("COUNT") or sized(20_000, 20))
MORE = sized(100, 2)
BATCH = 1000


def make_tenant() -> Any:
    from tenants.accounts.services import create_tenant
    from tenants.datasets.services import create_dataset
    from tenants.scope import tenant_scope

    tenant = create_tenant(slug=f"bench-{secrets.token_hex(4)}", name="Bench", plan="demo")
    with tenant_scope(tenant.id):
        return create_dataset(name="texts")


def seed(dataset: Any, numbers: range) -> None:
    """Assets as an import would leave them: blob and file, row, two facets, one vector each."""
    rng = np.random.default_rng(numbers.start)
    for start in range(numbers.start, numbers.stop, BATCH):
        _seed_batch(dataset, range(start, min(start + BATCH, numbers.stop)), rng)


def _seed_batch(dataset: Any, numbers: range, rng: np.random.Generator) -> None:
    from tenants.datasets import storage
    from tenants.datasets.models import Asset, Blob, Facet
    from tenants.retrieval.models import Vector
    from tenants.scope import tenant_scope

    texts = [f"Article {n}: {' '.join(rng.choice(WORDS, 40))}" for n in numbers]
    vectors = rng.standard_normal((len(texts), 256)).astype("<f4")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    blobs = [
        Blob(sha256=digest(t.encode()), bytes=len(t), media_type="text/plain", references=1) for t in texts
    ]
    assets = [
        Asset(
            dataset=dataset, blob=blob, modality="text", status="ready", excerpt=text, external_id=f"row-{n}"
        )
        for blob, text, n in zip(blobs, texts, numbers, strict=True)
    ]
    with tenant_scope(dataset.tenant_id):
        Blob.objects.bulk_create(blobs)
        Asset.objects.bulk_create(assets)
        Facet.objects.bulk_create(
            facet
            for asset, n in zip(assets, numbers, strict=True)
            for facet in (
                Facet(asset=asset, key="price", number=n / 7),
                Facet(asset=asset, key="kind", text="x"),
            )
        )
        Vector.objects.bulk_create(
            Vector(asset=asset, dataset_id=dataset.id, asset_modality="text", model="bench:1", modality="text",
                   seq=n + 1, data=vector.tobytes())
            for asset, vector, n in zip(assets, vectors, numbers, strict=True)
        )  # fmt: skip
        for blob, text in zip(blobs, texts, strict=True):
            storage.put(storage.path_of(dataset.tenant_id, blob.sha256), text.encode())


WORDS = ["red", "apple", "table", "quiet", "river", "seven", "paper", "under", "winter", "glass", "market"]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def call(data_dir: Path, *arguments: str) -> float:
    """Seconds that a command took, start of Python included."""
    start = time.perf_counter()
    env = {**inherited(), "DATA_DIR": str(data_dir)}
    subprocess.run([sys.executable, "-m", "standalone", *arguments], cwd=ROOT, env=env, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    return time.perf_counter() - start


def rows(stack: Stack) -> dict[str, Any]:
    with view(stack.env["OPERATOR_DATABASE_URL"]) as seen:
        return seen.digests()


def files(folder: Path) -> dict[str, str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): digest(path.read_bytes()) for path in found}


def megabytes(folder: Path, seen: set[int] | None = None) -> float:
    """What a folder adds on the disk to what `seen` (inodes) has: hard links count once."""
    known, total = seen if seen is not None else set(), 0
    for path in _all(folder):
        status = path.stat()
        if status.st_ino not in known:
            known.add(status.st_ino)
            total += status.st_blocks * 512
    return total / 1e6


def _all(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


@contextmanager
def source_in(folder: Path) -> Iterator[Stack]:
    """Services of one's own, on which nothing else writes; or those of the stack that is shared."""
    if SHARED:
        stack = Stack(Path(SHARED), [], {})
        start_django(stack)
        # Needs Django set up.
        from standalone.backup.create import LAST

        # These backups do not stay, and the stack's doctor would miss them.
        note, before = stack.data_dir / LAST, read_json(stack.data_dir / LAST)
        try:
            yield stack
        finally:
            note.unlink(missing_ok=True)
            if before is not None:
                write_json(note, before)
        return
    with embedded_services(folder, throwaway=False) as stack:
        start_django(stack)
        yield stack


def run() -> dict[str, Any]:
    shutil.rmtree(HOME, ignore_errors=True)
    target, backups = HOME / "target", HOME / "backups"
    figures: dict[str, Any] = {"assets": COUNT}
    with source_in(HOME / "source") as stack:
        source = stack.data_dir
        dataset = make_tenant()
        seed(dataset, range(COUNT))
        figures["backup_s"] = call(source, "backup", "--to", str(backups))
        seed(dataset, range(COUNT, COUNT + MORE))
        if not TOY:
            time.sleep(1)  # backups are named by the second
            figures["second_backup_s"] = call(source, "backup", "--to", str(backups))
        expected_rows, expected_files = rows(stack), files(source / "blobs")
    first, *more = manifest.complete_backups(backups)
    # One alone takes long enough for a toy.
    second = more[0] if more else first
    inodes: set[int] = set()
    figures |= {"backup_mb": megabytes(first, inodes), "second_backup_adds_mb": megabytes(second, inodes)}
    figures["second_backup_new_files"] = manifest.read_manifest(second).storage["new_files"]
    if not TOY:
        figures["verify_s"] = call(target, "verify", str(second))
    figures["restore_s"] = call(target, "restore", str(second))
    with embedded_services(target, throwaway=False, migrated=False) as stack:
        figures["rows"] = sum(table["rows"] for table in expected_rows.values())
        restored_rows = rows(stack)
    names = {*expected_rows, *restored_rows}
    figures["tables_differing"] = sorted(n for n in names if expected_rows.get(n) != restored_rows.get(n))
    figures["files"] = len(expected_files)
    figures["files_identical"] = files(target / "blobs") == expected_files
    figures["identical"] = figures["files_identical"] and not figures["tables_differing"]
    shutil.rmtree(HOME)
    return figures


def show(figures: dict[str, Any]) -> None:
    print(
        f"\nBackup and restore, {figures['assets']:,} text assets, {figures['rows']:,} rows, {figures['files']:,} files"
    )
    print(f"{'first backup':32}{figures['backup_s']:8.1f} s{figures['backup_mb']:9.1f} MB")
    added = f"({figures['second_backup_new_files']} new files)"
    print(
        f"{'second backup ' + added:32}{figures.get('second_backup_s', 0):8.1f} s"
        f"{figures['second_backup_adds_mb']:9.1f} MB more"
    )
    print(f"{'verify':32}{figures.get('verify_s', 0):8.1f} s")
    print(f"{'restore, verified and compared':32}{figures['restore_s']:8.1f} s")
    verdict = "identical by checksum" if figures["identical"] else f"DIFFERENT {figures['tables_differing']}"
    print(f"restore of {figures['assets'] + MORE:,} assets: {verdict} (every row of every table, every file)")


def main() -> int:
    report = Report("restore")
    figures = report.run("backup and restore", run)
    if figures is not None:
        show(figures)
        # A stack that is shared goes on writing.
        report.promise("what was restored is not what was backed up", kept=figures["identical"])
    return report.finish(figures or {})


if __name__ == "__main__":
    sys.exit(main())
