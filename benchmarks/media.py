"""What a minute of sound or film costs, over HTTP on a stack of its own (`make bench-media`).

Speech comes from the measuring sets where they are (spoken captions with pauses), film is 720p at 25 frames a
second: photos panned for four seconds each, with that speech as its sound track; and real short clips.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from _data import DATA, rows_of
from _report import OUT, Report, at_least, sized
from _stack import Client, Watch, stack_in
from numpy.typing import NDArray
from PIL import Image

from ml.media import Decoder
from standalone.config import ROOT

RATE, FPS, SIZE = 16_000, sized(25, 5), sized((1280, 720), (320, 180))
SOUND_S, FILM_S, SCENE_S = sized(300, 2), sized(120, 2), sized(4, 1)
COLUMNS = {
    "seconds": "seconds",
    "times_real": "times real",
    "stack_cpu_s_per_minute": "cpu s/min",
    "charged_cpu_s_per_minute": "charged s/min",
    "vectors": "vectors",
    "words": "words shown",
    "peak_mb": "peak MB",
}
TARGETS = {"audio": 5.0, "video": 5.0}


def speech(seconds: int) -> NDArray[np.float32]:
    """Spoken captions with pauses of 0.7 s, or a chord where the set is absent (then nothing is transcribed)."""
    rows = rows_of("spoken_captions_gtts")
    if not rows:
        moments = np.arange(seconds * RATE) / RATE
        return (0.2 * np.sin(440 * 2 * np.pi * moments) + 0.1 * np.sin(660 * 2 * np.pi * moments)).astype(
            "f4"
        )
    decoder, pause = Decoder(), np.zeros(int(0.7 * RATE), np.float32)
    pieces: list[NDArray[np.float32]] = []
    while sum(map(len, pieces)) < seconds * RATE:
        row = rows[len(pieces) // 2 % len(rows)]
        pieces += [decoder.audio(DATA / "spoken_captions_gtts" / row["path"]), pause]
    decoder.close()
    return np.concatenate(pieces)[: seconds * RATE]


def write_sound(path: Path, samples: NDArray[np.float32], codec: str) -> Path:
    with av.open(str(path), "w") as file:
        _write_sound(file, _add_sound(file, codec), samples)
    return path


def _add_sound(file: Any, codec: str) -> Any:
    """A stream of sound; to be added before anything is written."""
    stream = file.add_stream(codec, rate=48_000)
    stream.layout = "mono"
    return stream


def _write_sound(file: Any, stream: Any, samples: NDArray[np.float32]) -> None:
    for start in range(0, len(samples), RATE):
        frame = av.AudioFrame.from_ndarray(
            (samples[None, start : start + RATE] * 32767).astype("i2"), "s16", "mono"
        )
        frame.sample_rate, frame.pts = RATE, None
        file.mux(stream.encode(frame))
    file.mux(stream.encode(None))


def write_film(path: Path, samples: NDArray[np.float32]) -> Path:
    with av.open(str(path), "w") as file:
        video = file.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "23"})
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        video.time_base = Fraction(1, FPS)
        sound = _add_sound(file, "aac")
        for number, pixels in enumerate(_scenes(FILM_S * FPS)):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts = number
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        _write_sound(file, sound, samples)
    return path


def _scenes(count: int) -> Iterator[NDArray[np.uint8]]:
    photos = sorted((ROOT / "ml" / "compression" / "calibration").glob("*.jpg"))
    for number in range(count):
        scene, step = divmod(number, SCENE_S * FPS)
        if step == 0:
            with Image.open(photos[scene % len(photos)]) as image:
                wide = np.asarray(image.convert("RGB").resize((SIZE[0] + SCENE_S * FPS, SIZE[1])))
        yield np.ascontiguousarray(wide[:, step : step + SIZE[0]])


def measure(client: Client, watch: Watch, dataset: str, path: Path) -> dict[str, Any]:
    with watch.on(), path.open("rb") as stream:
        answer = client.send("POST", f"/datasets/{dataset}/assets", files={"file": (path.name, stream)})
        job = client.wait(answer["job"]["id"], every_s=0.05)
    asset = client.send("GET", f"/assets/{answer['asset']['id']}")
    if job["state"] != "succeeded":
        return {"name": path.name, "failed": job["error"]}
    return {
        "name": path.name,
        "modality": asset["modality"],
        "seconds": round(asset["duration_s"], 1),
        "times_real": round(asset["duration_s"] / watch.wall_s, 2),
        "stack_cpu_s_per_minute": round(watch.cpu_s * 60 / asset["duration_s"], 2),
        "charged_cpu_s_per_minute": round(job["cost"]["cpu_s"] * 60 / asset["duration_s"], 2),
        "vectors": job["result"]["vectors"],
        "words": len(asset["excerpt"].split()),
        "peak_mb": round(watch.peak_mb),
    }


def run() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(dir=OUT) as name:
        folder = Path(name)
        words = speech(SOUND_S)
        warm = write_sound(folder / "warm-up.wav", words[: sized(10, 1) * RATE], "pcm_s16le")
        files = [
            write_sound(folder / "speech.mp3", words, "libmp3lame"),
            write_sound(folder / "speech.ogg", words, "libopus"),
            write_film(folder / "film-720p.mp4", words[: FILM_S * RATE]),
            *sorted((DATA / "short_clips" / "dev").glob("*.mp4"))[: sized(None, 0)],
        ]
        with stack_in(folder / "stack") as stack:
            client = Client(stack, "grocery")
            dataset = client.dataset("media")
            measure(client, Watch(stack, "worker-bulk"), dataset, warm)
            measure(client, Watch(stack, "worker-bulk"), dataset, _short_film(folder))
            return [measure(client, Watch(stack, "worker-bulk"), dataset, path) for path in files]


def _short_film(folder: Path) -> Path:
    """Loads the picture models."""
    with av.open(str(folder / "warm-up.mp4"), "w") as file:
        video = file.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
        for _ in range(FPS):
            file.mux(video.encode(av.VideoFrame.from_ndarray(np.full((240, 320, 3), 90, np.uint8), "rgb24")))
        file.mux(video.encode(None))
    return folder / "warm-up.mp4"


def show(lines: list[dict[str, Any]]) -> None:
    print("\nSound and film over HTTP: upload to searchable")
    head = (
        "seconds",
        "times_real",
        "stack_cpu_s_per_minute",
        "charged_cpu_s_per_minute",
        "vectors",
        "words",
        "peak_mb",
    )
    print(
        f"{'':36}"
        + "".join(f"{title.replace('stack_', '').replace('_per_minute', '/min'):>16}" for title in head)
    )
    for line in lines:
        cells = (
            "".join(f"{line[title]:>15}" for title in COLUMNS)
            if "failed" not in line
            else f"  {line['failed']}"
        )
        print(f"{line['name'][:35]:36}{cells}")


def main() -> int:
    report = Report("media")
    lines = report.run("sound and film", run) or []
    show(lines)
    found = {}
    for modality, target in TARGETS.items():
        long = [
            line["times_real"]
            for line in lines
            if line.get("modality") == modality and line["seconds"] > sized(60, 0)
        ]
        if not long:
            report.promise(f"{modality}: nothing was measured", kept=False)
            continue
        found[modality] = min(long)
        told = at_least(f"{modality}: times real time", min(long), target, "x")
        print(told.shown())
        report.judge("media", [told])
    for line in lines:
        if "failed" in line:
            report.broken.append(f"{line['name']}: {line['failed']}")
    return report.finish({"files": lines, "slowest": found})


if __name__ == "__main__":
    sys.exit(main())
