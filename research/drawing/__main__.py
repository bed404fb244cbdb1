"""``python -m research.drawing fetch | train FOLDER | pack FOLDER``: the drawings, a resumable run, the weights' file.

``train`` goes on where its folder stands and stops after the step at hand on SIGTERM. One thread is enough for the
small network; ``OMP_NUM_THREADS`` gives it more.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from research.drawing.designs import ALL, SPLIT_WEIGHTS, TRAIN, Designs, fetch, load_designs

#: Principal components that are kept.
COMPONENTS = 384
#: What of the plan (``train.Plan``) may be said otherwise, and its type.
SETTINGS = {"steps": int, "batch": int, "seed": int, "consistency": float, "rate": float, "ema": float}


def main(argv: list[str] | None = None) -> int:
    options = _options(argv)
    return int(options.do(options) or 0)


def _fetch(options: argparse.Namespace) -> None:
    designs = fetch()
    shown = {split: len(designs.of(split)) for split in ("train", "judge", "test")}
    _say("fetched", concepts=len(designs.concepts), drawings=len(designs.pixels), **shown)


def _train(options: argparse.Namespace) -> int:
    from ml.drawing.network import Shape
    from ml.drawing.packing import unpack
    from research.drawing.examples import cached_words, examples_of, training_pixels
    from research.drawing.networks import fit_basis, pack, train_finishing
    from research.drawing.train import Plan, Training

    designs = _designs()
    if designs is None:
        return 2
    pixels = training_pixels(designs, options.split)
    begins = unpack(options.begin) if options.begin else None
    basis = begins.basis if begins else fit_basis(pixels, COMPONENTS)
    words = cached_words(designs, options.folder, options.split)
    examples = examples_of(designs, basis, words, options.split)
    given = {name: getattr(options, name) for name in SETTINGS}
    plan = Plan(**{name: value for name, value in given.items() if value is not None})
    training = Training(examples, Shape(), plan, options.folder, _say, begins.weights if begins else None)
    whole = training.run()
    touch = begins.fine if begins else {}
    if whole and not begins:
        touch = train_finishing(pixels, basis, seed=plan.seed, say=_say)
    about = {
        "plan": asdict(plan),
        "steps": training.step,
        "drawings": len(examples.latents),
        "concepts": options.split,
        "begins": begins.digest if begins else None,
    }
    size = pack(
        options.folder / "drawing.safetensors",
        training.weights,
        basis,
        about,
        touch,
        examples.words[examples.starts[:-1]],
    )
    _say("trained" if whole else "stopped", step=training.step, bytes=size)
    return 0


def _pack(options: argparse.Namespace) -> None:
    """Put a run's weights where the platform looks for them, if they can be read: those that learnt all concepts; those
    of the split where the figures of the held-out concepts are measured."""
    from ml.drawing.packing import SHIPPED, unpack

    made = options.folder / "drawing.safetensors"
    packed = unpack(made)
    target = SHIPPED if packed.about.get("concepts") == ALL else SPLIT_WEIGHTS
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(made.read_bytes())
    _say("packed", version=packed.digest, bytes=target.stat().st_size, path=str(target))


def _designs() -> Designs | None:
    designs = load_designs()
    if designs is None:
        print("error: no drawings; run `python -m research.drawing fetch`", file=sys.stderr)
    return designs


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m research.drawing", description=__doc__)
    commands = parser.add_subparsers(required=True)
    commands.add_parser("fetch", help="fetch and draw the open emoji designs").set_defaults(do=_fetch)
    train = commands.add_parser("train", help="train in FOLDER, or go on where it stands")
    train.add_argument("folder", type=Path)
    train.add_argument("--begin", type=Path, help="go on from these weights, in their basis")
    train.add_argument("--split", choices=(TRAIN, ALL), default=ALL, help="which concepts teach")
    for name, kind in SETTINGS.items():
        train.add_argument(f"--{name}", type=kind)
    train.set_defaults(do=_train)
    pack = commands.add_parser("pack", help="ship what FOLDER's run made")
    pack.add_argument("folder", type=Path)
    pack.set_defaults(do=_pack)
    return parser.parse_args(argv)


def _say(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}, default=float), flush=True)


if __name__ == "__main__":
    sys.exit(main())
