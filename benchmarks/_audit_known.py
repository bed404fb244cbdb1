"""Known content: which changes of a picture, sound or film leave it known, and what is taken for a copy that is none.

Thresholds were chosen on grocery_store, playground_50_50 and modern_generators (and `SHARE` after a look at the first
false ones of flickr8k_1k); the tables are of flickr8k_1k and fashion_products. Half of a set's pictures are listed,
the others must not match. Two photos of one scene a second apart are different pictures here, and count as false; the
second figure takes them apart by the numbers that the site gave them in the order of their uploads.
"""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
from _data import DATA, rows_of
from _report import Line, at_least, at_most, sized
from PIL import Image, ImageDraw, ImageOps

from ml.hashing import fingerprints, image_codes, pdq, points, sounds
from ml.hashing.fingerprints import Fingerprints
from ml.hashing.pdq import HammingIndex, enough_frames_match
from ml.hashing.sounds import SoundIndex
from ml.media import Decoder, MediaError

LISTED = int(os.environ.get("KNOWN") or sized(80, 3))
LIST_SIZE, CANDIDATES = sized(100_000, 500), 16
Picture = Image.Image
Change = Callable[[Picture], Picture]


def jpeg(picture: Picture, quality: int) -> Picture:
    sink = io.BytesIO()
    picture.save(sink, "JPEG", quality=quality)
    return Image.open(sink).convert("RGB")


def smaller(picture: Picture, share: int) -> Picture:
    size = (max(8, picture.width // share), max(8, picture.height // share))
    return picture.resize(size, Image.Resampling.BICUBIC)


def cropped(picture: Picture, share: float) -> Picture:
    """Without this share of its width and of its height, at places that its size draws."""
    random = np.random.default_rng([picture.width, picture.height, int(100 * share)])
    width, height = (round(side * (1 - share)) for side in picture.size)
    left, top = (
        int(random.integers(0, side - kept + 1))
        for side, kept in zip(picture.size, (width, height), strict=True)
    )
    return picture.crop((left, top, left + width, top + height))


def captioned(picture: Picture) -> Picture:
    bar = max(12, round(0.15 * picture.height))
    taller = Image.new("RGB", (picture.width, picture.height + bar), "white")
    taller.paste(picture, (0, bar))
    pen = ImageDraw.Draw(taller)
    pen.text((picture.width // 20, bar // 5), "WHEN YOU SEE IT AT LAST", "black", font_size=max(8, bar // 2))
    return taller


def turned(picture: Picture, degrees: float) -> Picture:
    return picture.rotate(degrees, Image.Resampling.BICUBIC, expand=True)


CHANGES: dict[str, Change] = {
    **{f"JPEG {quality}": lambda one, q=quality: jpeg(one, q) for quality in (20, 50, 75, 95)},
    "half size": lambda one: smaller(one, 2),
    "quarter size": lambda one: smaller(one, 4),
    **{f"crop {share} %": lambda one, s=share: cropped(one, s / 100) for share in (5, 10, 20)},
    "rotate 5°": lambda one: turned(one, 5),
    "rotate -5°": lambda one: turned(one, -5),
    "flip": ImageOps.mirror,
    "caption bar": captioned,
    "crop 10 %, flip, JPEG 50": lambda one: jpeg(ImageOps.mirror(cropped(one, 0.1)), 50),
}


@dataclass(frozen=True)
class Found:
    """Which listed pictures each way takes a query for."""

    by_hash: frozenset[int]
    by_points: frozenset[int]

    @property
    def any(self) -> frozenset[int]:
        return self.by_hash | self.by_points


class Listed:
    """Pictures on one list, matched as `tenants.moderation.known_content.services` does it."""

    def __init__(self, prints: Sequence[Fingerprints]) -> None:
        self.pdq = HammingIndex(_rows([one.pdq or bytes(pdq.BYTES) for one in prints]))
        self.hashed = np.array([bool(one.pdq) for one in prints])
        self.codes = HammingIndex(_rows([one.code for one in prints]))
        self.points = [points.Keypoints(one.points) for one in prints]

    def find(self, query: Fingerprints) -> Found:
        hashed = {
            int(row)
            for one in filter(None, (query.pdq, *query.turned))
            for row in self.pdq.within(one, pdq.LIMIT)[0]
            if self.hashed[row]
        }
        return Found(frozenset(hashed), frozenset(self._by_points(query)))

    def _by_points(self, query: Fingerprints) -> list[int]:
        differing = self.codes.differing(query.code)
        near = np.argsort(differing)[:CANDIDATES]
        mine = points.Keypoints(query.points)
        return [
            int(row)
            for row in near
            if differing[row] <= image_codes.LIMIT * image_codes.FEATURES
            and points.match_keypoints(mine, self.points[row]).copy
        ]


def _rows(hashes: Sequence[bytes]) -> Any:
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(len(hashes), -1)


def prints_of(picture: Picture) -> Fingerprints:
    return Fingerprints.read(fingerprints.of_picture(np.asarray(picture.convert("RGB"))))


def run(out: Path) -> list[Line]:
    if why := image_codes.missing():
        return [Line(f"not measured: {why}"[:100], "-")]
    return [
        *_pictures("flickr8k_1k", apart=True),
        *_pictures("fashion_products", share=2),
        *_speed(),
        *_sounds(),
        *_films(),
    ]


# --- Pictures --------------------------------------------------------------------------------------------


def _pictures(name: str, *, apart: bool = False, share: int = 1) -> list[Line]:
    paths = _paths(name)
    if not paths:
        return [Line(f"{name}: not measured, the set is absent", "-")]
    random = np.random.default_rng(11)
    random.shuffle(paths)
    listed, others = paths[: LISTED // share], paths[LISTED // share : 4 * LISTED // share]
    kept = Listed([prints_of(_open(path)) for path in listed])
    lines = [_hits(name, kept, listed, what, change) for what, change in CHANGES.items()]
    found, wanted = sum(line[1] for line in lines), len(listed) * len(CHANGES)
    false = _false(kept, others)
    return [
        *(line for line, _ in lines),
        at_least(f"{name}: found, all changes", round(100 * found / wanted, 2), 95, "%"),
        at_most(f"{name}: others taken for listed ones", _percent(false.values()), 0.1, "%"),
        *([_apart(name, listed, false)] if apart else []),
    ]


def _paths(name: str) -> list[Path]:
    rows = rows_of(name)
    return sorted(DATA / name / row["path"] for row in rows) if rows else []


def _open(path: Path) -> Picture:
    return ImageOps.exif_transpose(Image.open(path)).convert("RGB")


def _hits(name: str, kept: Listed, listed: Sequence[Path], what: str, change: Change) -> tuple[Line, int]:
    found = [kept.find(prints_of(change(_open(path)))) for path in listed]
    by_hash = sum(place in one.by_hash for place, one in enumerate(found))
    by_points = sum(place in one.by_points for place, one in enumerate(found))
    either = sum(place in one.any for place, one in enumerate(found))
    count = len(listed)
    told = f"{100 * by_hash / count:.0f} / {100 * by_points / count:.0f} / {100 * either / count:.0f}"
    return Line(f"{name}: {what} (PDQ / neighbours / either)", told, "%"), either


def _false(kept: Listed, others: Sequence[Path]) -> dict[tuple[Path, str], frozenset[int]]:
    """What others are taken for: as they are, cropped and mirrored."""
    asked = {"as they are": lambda one: one, "crop 10 %": CHANGES["crop 10 %"], "flip": CHANGES["flip"]}
    return {
        (path, what): kept.find(prints_of(change(_open(path)))).any
        for path in others
        for what, change in asked.items()
    }


def _percent(found: Any) -> float:
    values = [bool(one) for one in found]
    return round(100 * sum(values) / len(values), 3)


def _apart(name: str, listed: Sequence[Path], false: dict[tuple[Path, str], frozenset[int]]) -> Line:
    """Without pairs whose numbers are near: uploads of one person on one day."""
    far = {
        asked: {place for place in found if abs(_number(asked[0]) - _number(listed[place])) > 2_000_000}
        for asked, found in false.items()
    }
    told = f"{name}: others, without further shots of a listed scene"
    return at_most(told, _percent(far.values()), 0.1, "%")


def _number(path: Path) -> int:
    found = re.match(r"\d+", path.name)
    return int(found[0]) if found else 0


def _speed() -> list[Line]:
    random = np.random.default_rng(0)
    hashes = HammingIndex(random.integers(0, 256, (LIST_SIZE, pdq.BYTES), dtype=np.uint8))
    codes = HammingIndex(random.integers(0, 256, (LIST_SIZE, image_codes.BYTES), dtype=np.uint8))
    size = (1024, 768)
    picture = Image.effect_noise(size, 60).resize((128, 96)).resize(size).convert("RGB")
    pixels = np.asarray(picture)
    read = prints_of(picture)
    mine = points.Keypoints(read.points)

    def match() -> None:
        for one in (read.pdq, *read.turned):
            hashes.within(one, pdq.LIMIT)
        np.argpartition(codes.differing(read.code), CANDIDATES)
        for _ in range(CANDIDATES):
            points.match_keypoints(mine, mine)

    return [
        at_most("PDQ of 1024 x 768 pixels, all eight", _timed(lambda: pdq.dihedral(pixels)), 15),
        Line("all fingerprints of that picture", _timed(lambda: prints_of(picture)), "ms"),
        at_most(f"a picture against {LIST_SIZE:,} (candidates read already)", _timed(match), 20),
    ]


def _timed(function: Callable[[], Any]) -> float:
    """Milliseconds of processor time, the median of several."""
    taken = []
    for _ in range(9):
        start = time.process_time()
        function()
        taken.append(time.process_time() - start)
    return round(1000 * float(np.median(taken[1:])), 2)


# --- Sound -----------------------------------------------------------------------------------------------

Heard = dict[str, Callable[[Any], Any]]


def _sounds() -> list[Line]:
    rows = rows_of("spoken_captions_gtts")
    if not rows:
        return [Line("sound: not measured, the set is absent", "-")]
    with Decoder() as decoder, TemporaryDirectory() as folder:
        heard = [_sound(decoder, DATA / "spoken_captions_gtts" / row["path"]) for row in rows[:120]]
        heard = [one for one in heard if len(one) >= 3.5 * sounds.RATE]
        half = len(heard) // 2
        index = SoundIndex.of(
            (bytes([n]) * 16, sounds.audio_fingerprint(one)) for n, one in enumerate(heard[:half])
        )
        path = Path(folder) / "sound.mp3"
        changes: Heard = {
            "MP3 64k": lambda one: _sound(decoder, _mp3(one, path)),
            "a twentieth as loud": lambda one: one * 0.05,
            "0.55 s cut off": lambda one: one[8_800:],
            "1 s cut off, quieter, MP3 64k": lambda one: _sound(decoder, _mp3(one[16_000:] * 0.5, path)),
        }
        lines = [_hearing(index, heard[:half], what, change) for what, change in changes.items()]
        wrong = [bool(_owners(index, one)) for one in heard[half:]]
    return [
        *lines,
        at_most(f"sound: others taken for listed ones, of {len(wrong)}", _percent(wrong), 0.1, "%"),
    ]


def _hearing(index: SoundIndex, heard: Sequence[Any], what: str, change: Callable[[Any], Any]) -> Line:
    found = [bytes([n]) * 16 in _owners(index, change(one)) for n, one in enumerate(heard)]
    return at_least(f"sound found: {what}, of {len(found)}", round(100 * float(np.mean(found)), 1), 95, "%")


def _owners(index: SoundIndex, samples: Any) -> list[bytes]:
    content = sounds.audio_fingerprint(samples)
    return [owner for owner, _ in index.heard_in(content)] if content else []


def _sound(decoder: Decoder, path: Path) -> Any:
    return np.concatenate([piece.samples for piece in decoder.sound(path)])


def _mp3(samples: Any, path: Path) -> Path:
    with av.open(str(path), "w", format="mp3") as sink:
        stream: Any = sink.add_stream("libmp3lame", rate=sounds.RATE, layout="mono")
        stream.bit_rate = 64_000
        whole = (np.clip(samples, -1, 1) * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(whole, format="s16", layout="mono")
        frame.rate = sounds.RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            sink.mux(packet)
    return path


# --- Films -----------------------------------------------------------------------------------------------


def _films() -> list[Line]:
    rows = rows_of("short_clips")
    if not rows:
        return [Line("films: not measured, the set is absent", "-")]
    with Decoder() as decoder, TemporaryDirectory() as folder:
        paths = [DATA / "short_clips" / row["path"] for row in rows]
        films = [(path, prints) for path in paths if len(prints := _frames(decoder, path)) >= 3]
        copies = [
            _frames(decoder, _saved_again(path, Path(folder) / f"{n}.mp4"))
            for n, (path, _) in enumerate(films)
        ]
    alike = [[_same(copy, prints) for _, prints in films] for copy in copies]
    found = [alike[n][n] for n in range(len(films))]
    wrong = [one for n, row in enumerate(alike) for m, one in enumerate(row) if n != m]
    return [
        Line(f"films found, 320 pixels, a quarter of the bits, 1 s cut off, of {len(found)}", sum(found)),
        Line(f"films taken for others, of {len(wrong)} pairs", sum(wrong)),
    ]


def _frames(decoder: Decoder, path: Path) -> tuple[fingerprints.Frame, ...]:
    """None of a container that is not read here."""
    try:
        frames = [fingerprints.of_frame(one.pixels, one.at_s) for one in decoder.frames(path, 32)]
    except MediaError:
        return ()
    return Fingerprints.read({"frames": frames}).frames


def _same(one: Sequence[fingerprints.Frame], other: Sequence[fingerprints.Frame]) -> bool:
    if not one or not other:
        return False
    kept = HammingIndex(_rows([frame.pdq for frame in other]))
    near = [n for n, frame in enumerate(one) if len(kept.within(frame.pdq, pdq.LIMIT)[0])]
    return enough_frames_match(near, len(one), len(other))


def _saved_again(path: Path, target: Path) -> Path:
    with av.open(str(path)) as source, av.open(str(target), "w") as sink:
        film = source.streams.video[0]
        height = max(2, 320 * film.height // film.width // 2 * 2)
        stream: Any = sink.add_stream(
            "mpeg4", rate=Fraction(film.average_rate or 25), width=320, height=height
        )
        stream.bit_rate, stream.pix_fmt = 250_000, "yuv420p"
        count = 0
        for frame in source.decode(film):
            if (frame.time or 0.0) < 1.0 or count >= 900:
                continue
            smaller_one = frame.reformat(320, height, "yuv420p")
            smaller_one.pts, smaller_one.time_base = count, 1 / Fraction(film.average_rate or 25)
            count += 1
            for packet in stream.encode(smaller_one):
                sink.mux(packet)
        for packet in stream.encode(None):
            sink.mux(packet)
    return target


if __name__ == "__main__":
    for line in run(Path()):
        print(line.shown())
