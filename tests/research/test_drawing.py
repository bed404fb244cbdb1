"""Training the drawing model: its splits, its finishing, and a run that is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from ml.drawing import network
from research.drawing.designs import JUDGE, TEST, TRAIN, family, split_of
from research.drawing.networks import channels_first, finishing_layers, fit_basis, train_finishing

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_finishing_touch_is_torchs_and_learns() -> None:
    import torch

    chance = np.random.default_rng(0)
    # Red squares on white, at 60 places: few components ring where nothing is.
    pixels = np.full((60, 64, 64, 3), 255, np.uint8)
    for picture, (down, right) in zip(pixels, chance.integers(0, 48, (60, 2)), strict=True):
        picture[down : down + 16, right : right + 16] = (255, 0, 0)
    basis = fit_basis(pixels, 12)
    errors: list[tuple[float, float]] = []

    def say(_: str, **fields: float) -> None:
        errors.append((fields["error"], fields["before"]))

    weights = train_finishing(pixels, basis, steps=101, batch=8, say=say)
    assert errors[-1][0] < 0.9 * errors[-1][1]
    rough = basis.rough(basis.encode(pixels[:2]))
    layers = finishing_layers()
    layers.load_state_dict(
        {f"{2 * int(name[0])}{name[1:]}": torch.from_numpy(w) for name, w in weights.items()}
    )
    with torch.inference_mode():
        meant = layers(channels_first(rough)).numpy().transpose(0, 2, 3, 1) + rough
    assert np.allclose(network.apply(weights, rough), meant, atol=1e-4)


def test_a_family_is_in_one_split() -> None:
    assert family("red heart") == family("heart with arrow") == "heart"
    assert split_of("red heart") == split_of("broken heart") == split_of("heart on fire")
    found = [
        split_of(f"thing {chr(97 + number % 26)}{chr(97 + number // 26 % 26)}{chr(97 + number // 676)}")
        for number in range(2_000)
    ]
    shares = {split: found.count(split) / 2_000 for split in (TRAIN, JUDGE, TEST)}
    assert shares == pytest.approx({TRAIN: 0.54, JUDGE: 0.30, TEST: 0.16}, abs=0.04)


_RUN = """
import sys, numpy as np
from pathlib import Path
from research.drawing.examples import Examples
from ml.drawing.network import Shape
from research.drawing.train import Plan, Training
from ml.drawing.conditioning import PROMPT
import torch
torch.set_num_threads(1)
chance = np.random.default_rng(0)
latents = chance.normal(size=(24, 8)).astype("f4")
words = chance.normal(size=(12, PROMPT)).astype("f4")
examples = Examples(latents, np.arange(24) % 6, np.arange(24) % 5, words, np.arange(0, 13, 2))
plan = Plan(steps=int(sys.argv[2]), batch=16, save_every=40)
folder = Path(sys.argv[1])
def say(event, **fields): print(event, fields.get("step"), flush=True)
training = Training(examples, Shape(latent=8, hidden=16, wished=8, blocks=2), plan, folder, say)
print("whole" if training.run() else "stopped", training.step, flush=True)
np.savez(folder / "made.npz", **training.weights)
"""


def _trained(folder: Path, stop: bool) -> str:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", textwrap.dedent(_RUN), str(folder), "600"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=dict(os.environ)
    ) as process:
        assert process.stdout is not None
        said = [process.stdout.readline()]
        if stop:
            process.send_signal(signal.SIGTERM)
        said += process.stdout.readlines()
    assert process.returncode == 0
    return "".join(said)


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    assert "whole 600" in _trained(tmp_path / "straight", stop=False)
    assert "stopped" in _trained(tmp_path / "broken", stop=True)
    again = _trained(tmp_path / "broken", stop=False)
    assert again.startswith("resumed")
    assert "whole 600" in again
    with np.load(tmp_path / "straight/made.npz") as one, np.load(tmp_path / "broken/made.npz") as other:
        assert all(np.array_equal(one[name], other[name]) for name in one.files)
