"""``python -m research.composing bank SOUNDFONT`` builds the bank; ``… play PROMPT FILE.wav`` is for listening."""

from __future__ import annotations

import argparse
import wave
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m research.composing", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    bank = commands.add_parser("bank", help="from FluidR3_GM.sf2, which Debian's fluid-soundfont-gm brings")
    bank.add_argument("soundfont", type=Path)
    play = commands.add_parser("play")
    play.add_argument("prompt")
    play.add_argument("file", type=Path)
    play.add_argument("--seed", type=int, default=0)
    play.add_argument("--seconds", type=float, default=10.0)
    asked = parser.parse_args()
    if asked.command == "bank":
        from research.composing.bank import build

        build(asked.soundfont)
    else:
        _play(asked.prompt, asked.file, asked.seconds, asked.seed)


def _play(prompt: str, file: Path, seconds: float, seed: int) -> None:
    from ml.composing.moods import mood_of
    from ml.composing.render import RATE, render
    from ml.composing.score import compose

    mood = mood_of(prompt, None, seed)
    sound = render(compose(mood, seconds, seed))
    print(mood)
    with wave.open(str(file), "wb") as target:
        target.setnchannels(2)
        target.setsampwidth(2)
        target.setframerate(RATE)
        target.writeframes(np.rint(sound * 32767).astype("<i2").tobytes())


if __name__ == "__main__":
    main()
