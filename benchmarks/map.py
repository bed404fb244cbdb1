"""What the map costs at scale and whether its topics are any (`make bench-map`).

`SECTIONS=topics,reading,scale,browser`, all by default. Topics: clusters of vectors whose classes are known, by purity
and normalised mutual information, beside the same clusters dealt out by chance. Reading: VECTORS assets (a million)
with a vector each are filled into a Postgres of its own, and read as the map's job and its page do. Scale: what the
map's process takes for as many synthetic vectors, in processor seconds and memory. Browser: what is sent of as many
points, and what Chromium needs to draw them and to pan.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from _data import DATA, Array, Encoded, rows_of
from _report import OUT, ROOT, Line, Report, at_least, at_most, sized, skip

from ml.alignment.space import SHIPPED, JointSpace
from ml.projection import embed, topics

SECTIONS = os.environ.get("SECTIONS", "topics,reading,scale,browser").split(",")
VECTORS = int(os.environ.get("VECTORS", sized("1000000", "400")))
DIMENSION = 576
# Of the section on scale for the one on the browser.
KEPT = OUT / "map-points.npz"
#: Sets by the key of what they are sorted by, and how many of their rows.
SETS = (
    ("banking77", "label", "text", sized(2_500, 40)),
    ("zh_medical_qa", "department", "title", sized(1_500, 40)),
    ("grocery_store", "coarse", "path", sized(567, 24)),
)


# --- Topics ----------------------------------------------------------------------------------------------


def purity(cluster: Array, classes: Array) -> float:
    """The share of rows whose class is the most frequent one of their cluster."""
    most = [np.bincount(classes[cluster == one]).max() for one in np.unique(cluster)]
    return float(np.sum(most) / max(1, len(classes)))


def mutual_information(cluster: Array, classes: Array) -> float:
    """Normalised by the mean of both entropies: 0 to 1."""
    joint = np.zeros((int(cluster.max()) + 1, int(classes.max()) + 1))
    np.add.at(joint, (cluster, classes), 1 / len(classes))
    left, right = joint.sum(axis=1), joint.sum(axis=0)
    entropy = [-(one[one > 0] * np.log(one[one > 0])).sum() for one in (left, right)]
    known = joint > 0
    shared = (joint[known] * np.log(joint[known] / np.outer(left, right)[known])).sum()
    return float(2 * shared / max(sum(entropy), 1e-12))


def judge_topics(report: Report) -> dict[str, Any]:
    encoded = Encoded(JointSpace.load(SHIPPED.parent / "open-2"))
    figures: dict[str, Any] = {}
    for name, key, content, most in SETS:
        rows = rows_of(name, whole=True)
        if rows is None:
            continue
        rows = rows[:: max(1, len(rows) // most)][:most]
        if content == "path":
            vectors = encoded.embed_pictures([DATA / name / row["path"] for row in rows])
        else:
            vectors = encoded.space.as_asset(encoded.embed_texts([row[content] for row in rows]))
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        _names, classes = np.unique([row[key] for row in rows], return_inverse=True)
        found = topics.clusters_of(vectors)
        dealt = np.random.default_rng(0).permutation(found.cluster)
        lines = [
            Line("  rows, classes, topics", f"{len(rows)}, {classes.max() + 1}, {found.count}"),
            Line("  purity", purity(found.cluster, classes)),
            Line("  … dealt out by chance", purity(dealt, classes)),
            at_least("  normalised mutual information", mutual_information(found.cluster, classes), 0.5),
            Line("  … dealt out by chance", mutual_information(dealt, classes)),
        ]
        print(f"\n{name} by {key}")
        for line in lines:
            print(line.shown())
        report.judge(f"topics, {name}", lines)
        figures[name] = {line.what.strip(): line.value for line in lines}
    return figures


# --- A million vectors -----------------------------------------------------------------------------------


def synthetic(count: int, folder: Path) -> None:
    """Vectors around two hundred directions, as `embed` reads them: written in parts, so that this takes no memory."""
    random = np.random.default_rng(0)
    middles = random.normal(size=(200, DIMENSION)).astype(np.float32)
    with (folder / embed.VECTORS).open("wb") as file:
        for start in range(0, count, 20_000):
            group = random.integers(0, len(middles), min(20_000, count - start))
            part = middles[group] + random.standard_normal((len(group), DIMENSION), np.float32)
            (part / np.linalg.norm(part, axis=1, keepdims=True)).astype("<f4").tofile(file)
    np.ones(count, np.uint8).tofile(folder / embed.KINDS)


def run_job(count: int, folder: Path) -> tuple[dict[str, Any], float, float]:
    """The map's process over these vectors: its last line, processor seconds, greatest resident memory (MiB)."""
    synthetic(count, folder)
    command = [sys.executable, "-m", "ml.projection.embed", str(folder), "--dimension", str(DIMENSION)]
    command += ["--memory-bytes", str(4 << 30), "--cpu-s", "3600", "--nice", "0"]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    threads["TMPDIR"] = str(folder)
    begun = resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **threads},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as made:
        assert made.stdout
        last: dict[str, Any] = {}
        stage, at = "", time.monotonic()
        for text in made.stdout:
            last = json.loads(text)
            if last.get("stage", stage) != stage:
                print(f"  … {stage or 'starting'}: {time.monotonic() - at:.0f} s", flush=True)
                stage, at = last["stage"], time.monotonic()
        # Before its standard input is closed, by which it would end itself.
        made.wait()
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = ended.ru_utime + ended.ru_stime - begun.ru_utime - begun.ru_stime
    return last, cpu_s, ended.ru_maxrss / 1024


def measure_scale(report: Report) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=OUT) as name:
        folder = Path(name)
        print(f"\n{VECTORS:,} vectors of {DIMENSION} numbers")
        last, cpu_s, memory = run_job(VECTORS, folder)
        if "points" not in last:
            raise RuntimeError(str(last))
        places = np.fromfile(folder / embed.POINTS, "<f4").reshape(-1, 2)
        groups = np.fromfile(folder / embed.GROUPED, topics.GROUP)
    lines = [
        at_most("  the job, processor", cpu_s, 3600, "s"),
        Line("  … greatest resident memory, mapped vectors included", round(memory), "MiB"),
        Line("  … of ten nearest, near in it, too", last["kept_neighbours"]),
        Line("  … topics, outliers", f"{groups['topic'].max() + 1}, {groups['outlier'].sum()}"),
    ]
    for line in lines:
        print(line.shown())
    report.judge("scale", lines)
    np.savez(KEPT, places=places, groups=groups)
    return {line.what.strip(): line.value for line in lines}


# --- Read from Postgres ------------------------------------------------------------------------------------


def measure_reading(report: Report) -> dict[str, Any]:
    from _stack import SHARED, beside

    from standalone.stack import Stack, embedded_services

    print(f"\n{VECTORS:,} assets with a vector of {DIMENSION} numbers each, read from Postgres")
    with tempfile.TemporaryDirectory(dir=OUT) as name, ExitStack() as services:
        folder = Path(name)
        synthetic(VECTORS, folder)
        given = {"count": VECTORS, "dimension": DIMENSION, "vectors": str(folder / embed.VECTORS)}
        stack = (
            Stack(Path(SHARED), [], {})
            if SHARED
            else services.enter_context(embedded_services(folder / "stack"))
        )
        begun = time.monotonic()
        made = beside(stack, "_map_reading", {"do": "fill", **given})
        print(f"  … filled in {time.monotonic() - begun:.0f} s", flush=True)
        (folder / embed.VECTORS).unlink()
        found = beside(stack, "_map_reading", {"do": "read", "folder": name, **made, **given})
    if found["read"] != VECTORS or found["shown"] != VECTORS:
        raise RuntimeError(f"read {found['read']:,} and showed {found['shown']:,} of {VECTORS:,}")
    job, page = found["job"], found["page"]
    lines = [
        at_most("  the job: processor of the worker", job["cpu_s"], 60, "s"),
        Line("  the job: processor of Postgres", round(job["backend_s"], 1), "s"),
        Line("  the job: by the clock", round(job["wall_s"], 1), "s"),
        at_most("  the job: memory of the worker's own", job["memory"] / 2**20, 512, "MiB"),
        Line("  the job: files that Postgres sorted in", round(job["sorted_in_files"] / 2**20), "MiB"),
        Line("  the job: on the disk for the map's process", round(found["disk"] / 2**20), "MiB"),
        at_most("  the page: processor of the web process", page["cpu_s"], 15, "s"),
        Line("  the page: processor of Postgres", round(page["backend_s"], 1), "s"),
        Line("  the page: by the clock", round(page["wall_s"], 1), "s"),
        at_most("  the page: memory of the web process's own", page["memory"] / 2**20, 1024, "MiB"),
        Line("  the page: sent", round(found["sent"] / 2**20, 1), "MiB"),
    ]
    for line in lines:
        print(line.shown())
    report.judge("reading", lines)
    return {line.what.strip(): line.value for line in lines}


# --- What the page does with them --------------------------------------------------------------------------


def packed(count: int) -> tuple[bytes, float]:
    """What the server sends for so many points, and its processor seconds to pack it."""
    import django

    # Nothing is asked of a database: only what packs is needed.
    for name, value in (
        ("DJANGO_SETTINGS_MODULE", "config.settings"),
        ("SECRET_KEY", "bench"),
        ("DATABASE_URL", "postgres://localhost/bench"),
        ("REDIS_URL", "redis://localhost"),
    ):
        os.environ.setdefault(name, value)
    sys.path.append(str(ROOT / "platform"))
    django.setup()
    from tenants.retrieval.map_points import Points, Shown, _by_number, _of_groups, as_packed

    random = np.random.default_rng(0)
    if KEPT.exists():
        held = np.load(KEPT)
        places, groups = held["places"][:count], held["groups"][:count]
    else:
        middles = random.normal(size=(60, 2)) * 10
        topic = random.integers(0, 60, count)
        places = (middles[topic] + random.normal(size=(count, 2))).astype(np.float32)
        groups = np.zeros(count, topics.GROUP)
        groups["topic"], groups["outlier"] = topic, random.random(count) < 0.001
    ids = np.sort(random.integers(0, 256, (len(places), 16), np.uint8).view("S16").ravel())
    ids = ids.view(np.uint8).reshape(-1, 16)
    columns = {
        name: _by_number(
            random.integers(0, 4, len(places)).astype(np.uint8), ("text", "image", "audio", "video")
        )
        for name in ("dataset", "modality", "status", "verdict")
    }
    points = Points(ids, places, len(places), "umap", "open-2", {"kept_neighbours": 0.5}, groups)
    begun = time.process_time()
    found = Shown(ids, places, columns | _of_groups(groups), np.arange(len(ids)))
    return as_packed(points, found), time.process_time() - begun


class _Served(BaseHTTPRequestHandler):
    """What the page asks for, by path; over HTTP, as answers that a test puts in its place take seconds a megabyte."""

    answers: ClassVar[dict[str, tuple[str, bytes]]] = {}

    def do_GET(self) -> None:
        kind, content = self.answers.get(self.path.split("?")[0], ("application/json", b"{}"))
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        """Said by nobody."""


PAN = """async () => {
  const box = document.querySelector("[data-plot]"), edge = box.getBoundingClientRect(), times = [];
  const send = (name, at) => box.dispatchEvent(new PointerEvent(name, {
    pointerId: 1, bubbles: true, pointerType: "mouse",
    clientX: edge.left + 300 + at, clientY: edge.top + 200 + at / 2 }));
  box.setPointerCapture = () => {};
  send("pointerdown", 0);
  for (let step = 1; step <= 40; step++) {
    send("pointermove", step * 4);
    times.push(await new Promise((done) => requestAnimationFrame((start) => done(performance.now() - start))));
  }
  send("pointerup", 160);
  return times.sort((a, b) => a - b);
}"""


def _pages(body: bytes) -> dict[str, tuple[str, bytes]]:
    """The page without the parts that the server writes, its script and style, and its points."""
    console = ROOT / "platform" / "console"
    source = (console / "templates" / "console" / "map.html").read_text("utf-8")
    source = re.sub(r'data-points="[^"]*"', 'data-points="/points?"', source)
    main = re.sub(r"{%.*?%}|{{.*?}}", "", source)
    document = f"""<!doctype html><html lang="en"><head><link rel="stylesheet" href="/app.css"></head><body>
<script type="application/json" id="map-datasets">{{}}</script>{main}<script src="/map.js"></script></body></html>"""
    dist = console / "static" / "dist"
    return {
        "/": ("text/html", document.encode()),
        "/map.js": ("text/javascript", (dist / "map.js").read_bytes()),
        "/app.css": ("text/css", (dist / "app.css").read_bytes()),
        "/points": ("application/octet-stream", body),
    }


def _thread_ms(session: Any) -> float:
    found = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return float(found["TaskDuration"] * 1_000)


def measure_browser(report: Report) -> dict[str, Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        skip("playwright is not installed")
        return {}
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        skip("chromium is not installed")
        return {}
    body, cpu_s = packed(VECTORS)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Served) as server, sync_playwright() as playwright:
        _Served.answers = _pages(body)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=executable)
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        session = page.context.new_cdp_session(page)
        # Of the page's own thread the processor: walls are those of a machine that has other work.
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        page.goto(f"http://127.0.0.1:{server.server_port}/", wait_until="commit")
        page.wait_for_function("document.querySelector('#map')?.dataset.drawn", timeout=120_000)
        first, first_cpu = page.evaluate("performance.now()"), _thread_ms(session)
        page.wait_for_function("document.querySelector('#map').dataset.ready", timeout=120_000)
        page.wait_for_timeout(500)
        before = _thread_ms(session)
        times = page.evaluate(PAN)
        pan_cpu = (_thread_ms(session) - before) / len(times)
        heap = page.evaluate("performance.memory?.usedJSHeapSize ?? 0") / 2**20
        browser.close()
        server.shutdown()
    lines = [
        Line("  sent", round(len(body) / 2**20, 1), "MiB"),
        Line("  packed, processor of the server", round(cpu_s, 2), "s"),
        Line("  the first drawing, from the address", round(first), "ms"),
        at_most("  … processor of the page", first_cpu, 2_000),
        at_most("  a frame while panning, processor of the page", pan_cpu, 33),
        Line("  … from its start to its end, median", round(times[len(times) // 2], 1), "ms"),
        Line("  heap of scripts", round(heap), "MiB"),
    ]
    print(f"\nthe page with {VECTORS:,} points")
    for line in lines:
        print(line.shown())
    report.judge("browser", lines)
    return {line.what.strip(): line.value for line in lines}


PARTS = {
    "topics": judge_topics,
    "reading": measure_reading,
    "scale": measure_scale,
    "browser": measure_browser,
}


def main() -> int:
    report = Report("map")
    figures = {name: report.run(name, partial(PARTS[name], report)) or {} for name in SECTIONS}
    return report.finish(figures)


if __name__ == "__main__":
    sys.exit(main())
