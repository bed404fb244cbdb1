"""What an audit costs: items a second through the examining processes, and processor time by detector."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
from _data import DATA, rows_of
from _report import Line, at_least, sized

from ml.auditing import Examination, Examiner, Subject
from ml.detectors.base import CATALOG, Words
from ml.sandbox import without_realtime

CHILDREN = sized(2, 1)
TEXTS, PICTURES = sized(2_000, 3), sized(60, 1)
FILM_S = sized(60, 1)
#: These need an argument, so a fresh installation has none of them.
CONFIGURED = ("hf-", "onnx-")


def run(out: Path) -> list[Line]:
    specs = [name for name in CATALOG.ids() if not name.startswith(CONFIGURED)]
    examiner = Examiner(children=CHILDREN)
    try:
        return [
            *_texts(examiner, specs),
            *_pictures(examiner, specs),
            *_film(examiner, specs, out),
        ]
    finally:
        examiner.close()


def _all(
    examiner: Examiner, subjects: Sequence[Subject], specs: Sequence[str]
) -> tuple[float, list[Examination]]:
    """Seconds for all subjects, as many at a time as there are children; the processes are warm."""
    with ThreadPoolExecutor(CHILDREN) as pool:
        list(pool.map(lambda subject: examiner.examine(subject, specs), subjects[: 2 * CHILDREN]))
        start = time.monotonic()
        found = list(pool.map(lambda subject: examiner.examine(subject, specs), subjects))
        return time.monotonic() - start, found


def _costs(what: str, found: Iterable[Examination]) -> list[Line]:
    """Mean processor milliseconds of each detector, the dearest first; who could not look is named."""
    costs: dict[str, list[float]] = defaultdict(list)
    states: dict[str, set[str]] = defaultdict(set)
    for examination in found:
        for part in examination.parts:
            costs[part.spec].append(part.cpu_s)
            states[part.spec].add(part.finding.state)
    lines = []
    for spec, seconds in sorted(costs.items(), key=lambda pair: -float(np.mean(pair[1]))):
        said = "" if states[spec] == {"examined"} else " (" + ", ".join(sorted(states[spec])) + ")"
        lines.append(Line(f"  {what}, {spec}{said}"[:58], round(float(np.mean(seconds)) * 1000, 3), "cpu ms"))
    return lines


def _texts(examiner: Examiner, specs: Sequence[str]) -> list[Line]:
    rows = rows_of("davidson_hate")
    if rows is None:
        return [Line("texts: davidson_hate is not here", "skipped")]
    texts = [str(row["text"]) for row in rows[:TEXTS]]
    subjects = [Subject("text", "text/plain", words=[Words(text, "text")]) for text in texts]
    seconds, found = _all(examiner, subjects, specs)
    return [
        at_least(f"texts, all detectors, {CHILDREN} processes", len(texts) / seconds, 100, "/s"),
        *_costs("text", found),
    ]


def _pictures(examiner: Examiner, specs: Sequence[str]) -> list[Line]:
    rows = rows_of("modern_generators")
    if rows is None:
        return [Line("pictures: modern_generators is not here", "skipped")]
    paths = [str(row["path"]) for row in rows if max(row["size"]) >= 700][:PICTURES]
    options = {"watermark_key": "ab" * 32}
    folder = DATA / "modern_generators"
    subjects = [Subject("image", "image/jpeg", folder / path, options=options) for path in paths]
    without = [spec for spec in specs if spec != "ocr"]
    plain, _ = _all(examiner, subjects, without)
    full, found = _all(examiner, subjects, specs)
    return [
        at_least("pictures (768 px), all detectors but OCR", len(subjects) / plain, 4, "/s"),
        at_least("pictures (768 px), all detectors", len(subjects) / full, 2, "/s"),
        *_costs("picture", found),
    ]


def _film(examiner: Examiner, specs: Sequence[str], out: Path) -> list[Line]:
    path = out / "film-720p.mp4"
    _make_film(path, lambda second: _scene(second))
    seconds, found = _all(examiner, [Subject("video", "video/mp4", path)], specs)
    return [
        at_least(f"film of {FILM_S} s, 720p with sound, all detectors", FILM_S / seconds, 5, "x real"),
        *_costs("film", found),
    ]


def _scene(second: int) -> np.ndarray:
    """A picture with edges and texture that changes every second: plain colour would cost detectors nothing."""
    generator = np.random.default_rng(second)
    small = generator.integers(0, 255, (36, 64, 3), np.uint8)
    return np.kron(small, np.ones((20, 20, 1), np.uint8))


def _make_film(path: Path, scene: Callable[[int], np.ndarray]) -> None:
    with without_realtime(), av.open(str(path), "w") as file:
        video = file.add_stream("libsvtav1", rate=10, options={"preset": "12", "g": "20"})
        video.width, video.height, video.pix_fmt = 1280, 720, "yuv420p"
        audio = file.add_stream("aac", rate=48_000, layout="mono")
        for second in range(FILM_S):
            frame = av.VideoFrame.from_ndarray(scene(second), format="rgb24")
            for _ in range(10):
                file.mux(video.encode(frame))
            times = np.arange(48_000) / 48_000 + second
            tone = (0.2 * np.sin(2 * np.pi * (200 + 20 * second) * times)).astype(np.float32)
            for at in range(0, 48_000, 1_000):
                block = av.AudioFrame.from_ndarray(tone[None, at : at + 1_000], format="fltp", layout="mono")
                block.sample_rate, block.pts = 48_000, second * 48_000 + at
                file.mux(audio.encode(block))
        file.mux(video.encode())
        file.mux(audio.encode())
