"""Mutated files of every accepted kind: a result or a MediaError, in time and in flat memory, whatever they hold.

``FUZZ_EXAMPLES`` says how many (2,000 without it, with the same mutations each time; with it they are random, and
``--hypothesis-seed`` repeats a run). `make fuzz` runs many more.
"""

from __future__ import annotations

import io
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from ml.media import Decoder, MediaError, sniff
from tests.ml.recordings import Picture, tone, write

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "2000"))

#: Generous, for a machine that does other things too: what is legal takes some hundredths.
TIMEOUT_S = 15.0
MEMORY = 1 << 30
GROWTH = 8 << 20

#: Numbers that length, size, count and time fields do not expect.
ODD_NUMBERS = [
    number.to_bytes(size, "big")
    for size in (1, 2, 4, 8)
    for number in {
        0,
        1,
        2**7 % 2 ** (8 * size),
        2 ** (8 * size) - 1,
        2 ** (8 * size - 1),
        2 ** (8 * size - 1) - 1,
    }
]

Mutation = Callable[[bytearray], bytearray]


def pictures(count: int) -> list[Picture]:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (count, 6, 8, 3)).astype(np.uint8)
    return [np.kron(picture, np.ones((8, 8, 1), np.uint8)) for picture in coarse]


def photos() -> Iterator[bytes]:
    tags = Image.Exif()
    tags.get_ifd(0x8825).update({1: "N", 2: (47.0, 22.0, 0.0)})
    first, *others = map(Image.fromarray, pictures(3))
    options: dict[str, dict[str, object]] = {
        "JPEG": {"exif": tags}, "PNG": {}, "WEBP": {"exif": tags}, "AVIF": {},
        "GIF": {"save_all": True, "append_images": others},
    }  # fmt: skip
    for name, chosen in options.items():
        target = io.BytesIO()
        first.save(target, name, **chosen)
        yield target.getvalue()
    for name in ("gps", "tiles", "alpha"):
        yield (Path(__file__).parent / "heic" / f"{name}.heic").read_bytes()


def recordings(folder: Path) -> Iterator[bytes]:
    sound, film = tone(0.4, 48_000), pictures(8)
    cover = next(photos())
    made = {
        "wav": {}, "flac": {"cover": cover}, "mp3": {"cover": cover, "metadata": {"title": "A walk"}}, "ogg": {},
        "adts": {}, "ipod": {"metadata": {"location": "+47.3769+008.5417/"}}, "webm": {},
    }  # fmt: skip
    for container, options in made.items():
        yield write(folder / "seed", container, sound=sound, **options).read_bytes()
    films = [
        ("mp4", "libx264", {"movflags": "faststart"}), ("mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
        ("mp4", "libx265", {}), ("mp4", "libsvtav1", {}), ("mov", "mpeg4", {}), ("webm", "libvpx-vp9", {}),
        ("webm", "libvpx", {"live": "1"}), ("webm", "libsvtav1", {}), ("matroska", "libx264", {}), ("mov", "mjpeg", {}),
    ]  # fmt: skip
    for container, codec, muxing in films:
        yield write(
            folder / "seed",
            container,
            pictures=film,
            rate=4,
            sound=sound,
            codec=codec,
            muxing=muxing,
            rotation=90,
        ).read_bytes()


def spot(content: bytearray, share: float, near: bool) -> int:
    """A position: anywhere, or among the headers at the beginning, behind the magic number."""
    return 4 + int(share * min(len(content), 400)) if near else int(share * len(content))


def flip(share: float, near: bool, bits: int) -> Mutation:
    def mutate(content: bytearray) -> bytearray:
        if content:
            content[min(spot(content, share, near), len(content) - 1)] ^= bits
        return content

    return mutate


def overwrite(share: float, near: bool, number: bytes) -> Mutation:
    def mutate(content: bytearray) -> bytearray:
        at = spot(content, share, near)
        content[at : at + len(number)] = number
        return content

    return mutate


def insert(share: float, near: bool, noise: bytes) -> Mutation:
    def mutate(content: bytearray) -> bytearray:
        at = spot(content, share, near)
        return content[:at] + noise + content[at:]

    return mutate


def cut(share: float, length: int, to_the_end: bool) -> Mutation:
    def mutate(content: bytearray) -> bytearray:
        at = spot(content, share, False)
        return content[:at] + (b"" if to_the_end else content[at + length :])

    return mutate


def repeat(share: float, length: int, times: int) -> Mutation:
    def mutate(content: bytearray) -> bytearray:
        at = spot(content, share, False)
        return content[:at] + content[at : at + length] * times + content[at:]

    return mutate


def move(share: float, target: float, length: int) -> Mutation:
    def mutate(content: bytearray) -> bytearray:
        at, to = spot(content, share, False), spot(content, target, False)
        content[to : to + length] = content[at : at + length]
        return content

    return mutate


def splice(seeds: list[bytes], other: int, share: float) -> Mutation:
    def mutate(content: bytearray) -> bytearray:
        behind = seeds[other % len(seeds)]
        return content[: spot(content, share, False)] + behind[int(share * len(behind)) :]

    return mutate


def scattered(number: int) -> float:
    """Evenly over 0..1: hypothesis prefers small numbers, which would all hit the magic number."""
    return number * 2_654_435_761 % (1 << 32) / (1 << 32)


def mutations(seeds: list[bytes]) -> st.SearchStrategy[list[Mutation]]:
    share = st.integers(1, 1 << 16).map(scattered)
    near, length = st.booleans(), st.integers(1, 2000)
    one = st.one_of(
        st.builds(flip, share, near, st.integers(1, 255)),
        st.builds(overwrite, share, near, st.sampled_from(ODD_NUMBERS)),
        st.builds(insert, share, near, st.binary(min_size=1, max_size=40)),
        st.builds(cut, share, length, st.booleans()),
        st.builds(repeat, share, length, st.integers(1, 20)),
        st.builds(move, share, share, length),
        st.builds(splice, st.just(seeds), st.integers(0, 100), share),
    )
    return st.lists(one, min_size=1, max_size=4)


class Trial:
    """Everything that a file goes through, and what came of it."""

    def __init__(self, decoder: Decoder, folder: Path) -> None:
        self.decoder, self.path, self.target = decoder, folder / "file", folder / "clean"
        self.outcomes: Counter[str] = Counter()
        self.recent: deque[bytes] = deque(maxlen=50)
        self.slowest = 0.0

    def run(self, content: bytes) -> None:
        self.path.write_bytes(content)
        self.recent.append(content)
        media_type = sniff(content[:4096]) or ""
        self.outcomes["files"] += 1
        if media_type.startswith("image/"):
            self.step(lambda: self.decoder.image(self.path))
            return
        self.step(lambda: self.decoder.probe(self.path))
        self.step(lambda: list(self.decoder.sound(self.path)))
        self.step(lambda: list(self.decoder.frames(self.path)))
        self.step(lambda: self.decoder.clean(self.path, self.target, 4 << 20))

    def growth(self) -> int:
        """By how many bytes this process grows while it does the last files again; hypothesis itself keeps notes."""
        contents, process = list(self.recent), psutil.Process()
        for _ in range(2):
            for content in contents:
                self.run(content)
        before = process.memory_info().rss
        for _ in range(8):
            for content in contents:
                self.run(content)
        return process.memory_info().rss - before

    def step(self, ask: Callable[[], object]) -> None:
        start = time.monotonic()
        try:
            ask()
            self.outcomes["done"] += 1
        except MediaError as error:
            assert error.code != "timeout", error
            assert error.message
            self.outcomes[error.code] += 1
        self.slowest = max(self.slowest, time.monotonic() - start)


@pytest.mark.timeout(max(300, EXAMPLES // 5))
@pytest.mark.slow
def test_mutated_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seeds = [*photos(), *recordings(tmp_path)]
    start = time.monotonic()
    with Decoder(MEMORY, TIMEOUT_S, max_pixels=4_000_000, max_seconds=3600) as decoder:
        trial = Trial(decoder, tmp_path)
        for seed in seeds:
            trial.run(seed)
        assert trial.outcomes.keys() <= {"files", "done", "unsupported"}

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize="FUZZ_EXAMPLES" not in os.environ,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.sampled_from(seeds), mutations(seeds))
        def fuzz(seed: bytes, changes: list[Mutation]) -> None:
            content = bytearray(seed)
            for change in changes:
                content = change(content)[: 1 << 20]
            trial.run(bytes(content) or b"\0")

        fuzz()
        outcomes, seconds = Counter(trial.outcomes), time.monotonic() - start
        growth = trial.growth()
    with capsys.disabled():
        print(  # noqa: T201 - a run says what it met
            f"\nfuzz: {dict(outcomes)}, slowest {trial.slowest:.2f} s, all {seconds:.0f} s"
        )
    assert outcomes["files"] >= EXAMPLES + len(seeds)
    assert growth < GROWTH, growth
    # Mutations that break everything or nothing would find nothing.
    asked = sum(outcomes.values()) - outcomes["files"]
    assert 0.1 < outcomes["done"] / asked < 0.9
