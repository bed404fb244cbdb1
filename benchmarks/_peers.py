"""Other vector databases on the same hundred thousand vectors, each through its own client.

All 100,000, and with a filter that leaves the thousand of one tenant out of a hundred. Each lives in a virtual
environment of its own under $DATA_DIR/bench/peers, at the versions below; one that cannot be installed is said to be
absent. pgvector is the one inside the embedded Postgres, in a database of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from _report import OUT, TOY, Line, sized, skip
from _search_bench import EACH, HUNDRED, RECALL, Bench
from _search_http import Run, SectionFailed, measure
from _search_load import Tenant, connect, superuser_url
from _search_many import many
from _search_single import hundred, warmed
from _search_vectors import exact, recall

HOME = OUT / "peers"
ONLY = os.environ.get("PEERS", "").replace(",", " ").split()
PACKAGES = {
    "chromadb": ["chromadb==1.5.9"],
    "pgvector": ["psycopg2-binary==2.9.13", "pgvector==0.5.1"],
    "milvus-lite": ["pymilvus==3.0.2", "milvus-lite==3.2.2"],
    "lancedb": ["lancedb==0.40.0"],
}
ASKED, WARM, FILTERED_TENANT = sized(300, 5), sized(30, 2), sized(17, 1)
INSTALL_S, RUN_S = 900, 1800
DATABASE = "bench_peers"


def peers(bench: Bench) -> list[Line]:
    """The product first; then each peer at the product's recall or better, with the effort that this takes."""
    queries = bench.queries(WARM + ASKED, seed=91)
    ours = {"all": _ours_all(bench, queries), "one tenant": _ours_filtered(bench, queries)}
    folder = _shared(bench, queries)
    found = {name: _peer(bench, name, folder) for name in ONLY or PACKAGES}
    shutil.rmtree(folder)
    bench.figures["peers"] = {"crosslight": ours, **found}
    return [line for mode in ours for line in _table(mode, ours[mode], found)]


def _table(mode: str, ours: dict[str, float], found: dict[str, Any]) -> list[Line]:
    title = f"{HUNDRED:,} vectors" if mode == "all" else f"{mode} of {HUNDRED // EACH}, {EACH:,} vectors"
    lines = [_line(f"{title}: Crosslight", ours)]
    for name, modes in found.items():
        ways = {way: one for way, one in modes.items() if way.startswith(mode)}
        if "absent" in modes or not ways:
            lines.append(Line(f"{title}: {name}: {modes.get('absent', 'no figures')}"[:118], "absent"))
        for way, one in ways.items():
            line = _line(f"{title}: {name}{way.removeprefix(mode)}", one)
            # Who never reaches the recall asked for is not compared.
            due = ours["recall"] >= RECALL and one["recall"] >= RECALL
            line.target, line.met = "> ours", ours["p50_ms"] < one["p50_ms"] if due else None
            lines.append(line)
    return lines


def _line(title: str, one: dict[str, float]) -> Line:
    what = f"{title} (recall {one['recall']:.3f}, p99 {one['p99_ms']:.1f})"
    return Line(what, round(one["p50_ms"], 3), "ms", cpu_ms=one["cpu_ms"])


# --- The product -----------------------------------------------------------------------------------------


def _ours_all(bench: Bench, queries: np.ndarray) -> dict[str, float]:
    return _ours(bench, hundred(bench), queries, bench.truth(HUNDRED, queries[WARM:]))


def _ours_filtered(bench: Bench, queries: np.ndarray) -> dict[str, float]:
    """Here a tenant is no filter: it has an index of its own."""
    tenant, first = many(bench)[FILTERED_TENANT], FILTERED_TENANT * EACH
    truth = exact(bench.stored(first + EACH)[first:], queries[WARM:])
    return _ours(bench, tenant, queries, truth)


def _ours(bench: Bench, tenant: Tenant, queries: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    warmed(bench, tenant)
    measure(bench.stack, bench.searches(tenant, queries[:WARM]))
    cpu = _database_cpu(bench)
    run: Run = measure(bench.stack, bench.searches(tenant, queries[WARM:]))
    database = (_database_cpu(bench) - cpu) * 1000 / len(truth)
    return {
        "p50_ms": run.p50,
        "p99_ms": run.p99,
        "recall": recall(run.rows(), truth),
        "cpu_ms": run.cpu_ms + database,
    }


def _database_cpu(bench: Bench) -> float:
    from _stack import _family, _spent

    return sum(_spent(process) for process in _family(bench.stack.pid("postgres")))


# --- The peers -------------------------------------------------------------------------------------------


def _shared(bench: Bench, queries: np.ndarray) -> Path:
    """What every peer is given: vectors, tenants, queries and the truth, as arrays in files."""
    folder = HOME / "given"
    folder.mkdir(parents=True, exist_ok=True)
    vectors = np.ascontiguousarray(bench.stored(HUNDRED))
    owners = np.arange(HUNDRED) // EACH
    one = np.flatnonzero(owners == FILTERED_TENANT)
    arrays = {
        "vectors": vectors,
        "owners": owners,
        "queries": queries,
        "truth_all": exact(vectors, queries[WARM:]),
        "truth_one": exact(vectors, queries[WARM:], rows=one),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    plan = {"warm": WARM, "tenant": FILTERED_TENANT, "recall": RECALL}
    (folder / "plan.json").write_text(json.dumps(plan))
    return folder


def _peer(bench: Bench, name: str, folder: Path) -> dict[str, Any]:
    """Its figures by way of searching, or why it is absent."""
    try:
        python = _installed(name)
    except (subprocess.SubprocessError, OSError) as error:
        said = getattr(error, "stderr", "") or str(error)
        return {"absent": f"cannot be installed here: {said.strip().splitlines()[-1][:150]}"}
    work = HOME / "work" / name
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        return _run(bench, name, python, folder, work)
    except (subprocess.SubprocessError, SectionFailed, ValueError) as error:
        return {"absent": str(error)[:300]}
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _installed(name: str) -> Path:
    home, python = HOME / name, HOME / name / "bin" / "python"
    mark = home / "installed.json"
    if not mark.exists() or json.loads(mark.read_text()) != PACKAGES[name]:
        if TOY:
            skip(f"{name}: installed by a whole run")
            raise OSError("a toy installs nothing")
        print(f"installing {', '.join(PACKAGES[name])}")
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True, capture_output=True, text=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "numpy", "psutil", *PACKAGES[name]]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_S)
        mark.write_text(json.dumps(PACKAGES[name]))
    return python


def _run(bench: Bench, name: str, python: Path, folder: Path, work: Path) -> dict[str, Any]:
    program = Path(__file__).with_name("_peer_run.py")
    env = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    env |= {"ANONYMIZED_TELEMETRY": "False", "LANCEDB_CONFIG_DIR": str(work)}
    if name == "pgvector":
        _make_database(bench)
        env |= {
            "PEER_DATABASE": superuser_url(bench.stack, DATABASE),
            "PEER_SERVER_PID": str(bench.stack.pid("postgres")),
        }
    done = subprocess.run(
        [str(python), str(program), name, str(folder)],
        cwd=work, env=env, capture_output=True, text=True, timeout=RUN_S, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SectionFailed(
            f"broke off: {(done.stderr.strip().splitlines() or ['without a word'])[-1][:200]}"
        )
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def _make_database(bench: Bench) -> None:
    connection = connect(bench.stack, "postgres")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        cursor.execute(f"CREATE DATABASE {DATABASE}")
    connection.close()
