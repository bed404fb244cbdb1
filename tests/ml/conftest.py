"""Fixtures of the library's tests: prepared models, a decoder, pictures and sounds made on the spot."""

from __future__ import annotations

import subprocess
import sys
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ml.media import Decoder

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def models() -> Path:
    """The folder of prepared models; prepared now (under a minute) where that was not done before."""
    from ml.compression.prepare import prepare
    from ml.compression.store import models_dir

    prepare(models_dir())
    return models_dir()


@pytest.fixture(scope="session")
def decoder() -> Iterator[Decoder]:
    with Decoder() as decoder:
        yield decoder


@pytest.fixture
def run_python() -> Callable[[str], str]:
    """Run code in a fresh interpreter from the repository root; its standard output."""

    def run(code: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def photo() -> NDArray[np.uint8]:
    """A picture with colour, edges and noise: uint8 [300, 400, 3]."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:300, 0:400]
    base = np.stack([x * 255 // 400, y * 255 // 300, (x // 40 + y // 40) % 2 * 255], axis=-1)
    return np.clip(base + rng.normal(0, 8, base.shape), 0, 255).astype(np.uint8)


@pytest.fixture
def write_wav(tmp_path: Path) -> Callable[..., Path]:
    """Write float samples as a 16-bit WAV file."""

    def write(samples: NDArray[np.float64], rate: int = 16_000, channels: int = 1) -> Path:
        path = tmp_path / "sound.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(channels)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes(np.repeat((samples * 32767).astype("<i2"), channels).tobytes())
        return path

    return write
