"""``python -m ml.training run FOLDER`` trains; ``python -m ml.training extract SOURCE… --out DIR`` encodes raw pairs.

Both print JSON lines and end by themselves when standard input closes, so a parent that dies leaves no orphan. With
``"limits": {"processes": 4}`` in ``run.json`` the run is one of four processes under torchrun, one a GPU. With
``--confined`` it reads and writes nothing but its folder and the models, and has no network (``ml.sandbox``).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml import sandbox
from ml.compression.store import model_folders
from ml.training.plan import TrainingError


def main(argv: Sequence[str] | None = None) -> int:
    """The last line is ``{"event": "result", …}`` with exit status 0, or ``{"event": "error", "code", "detail"}``."""
    options = _options(argv)
    os.nice(options.nice)
    try:
        if options.confined and "WORLD_SIZE" not in os.environ:
            _confine(options.folder.resolve())
        threading.Thread(target=_end_with_parent, daemon=True).start()
        _say("result", **options.do(options))
    except TrainingError as error:
        _say("error", code=error.code, detail=str(error))
        return 1
    except MemoryError:
        _say(
            "error", code="out_of_memory", detail="Memory does not suffice, not even before the first batch."
        )
        return 1
    except Exception as error:
        traceback.print_exc()
        _say("error", code="failed", detail=f"{type(error).__name__}: {error}")
        return 1
    return 0


def _run(options: argparse.Namespace) -> dict[str, Any]:
    from ml.training.run import read_request, run

    processes = int(read_request(options.folder).limits.get("processes") or 1)
    if processes > 1 and "WORLD_SIZE" not in os.environ:
        _become_several(options.folder, processes)
    return run(options.folder, _say)


def _confine(folder: Path) -> None:
    from ml.training.run import read_request

    several = int(read_request(folder).limits.get("processes") or 1) > 1
    sandbox.confine("trainer", read=model_folders(), write=[folder], gpu=True, several=several)


def _become_several(folder: Path, processes: int) -> None:
    """Go on as torchrun with so many processes; they share this one's input and output, and end with its parent."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    os.execv(sys.executable, [sys.executable, *launcher, "-m", "ml.training", "run", str(folder)])  # noqa: S606


def _extract(options: argparse.Namespace) -> dict[str, Any]:
    from dataclasses import asdict

    from ml.alignment.space import JointSpace
    from ml.training.extract import extract

    def progress(pairs: int, unreadable: int) -> None:
        _say("extracting", pairs=pairs, unreadable=unreadable)

    return asdict(extract(options.sources, options.out, JointSpace.load(options.base), progress))


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ml.training", description=__doc__)
    parser.add_argument("--nice", type=int, default=10)
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="train as FOLDER/run.json asks")
    run.add_argument("folder", type=Path)
    run.add_argument("--confined", action="store_true", help="as a child of a server: FOLDER and models only")
    run.set_defaults(do=_run)
    extract = commands.add_parser(
        "extract", help="encode WebDataset .tar or Parquet files into feature shards"
    )
    extract.add_argument(
        "sources", nargs="+", help="files or folders, local or any URL that fsspec or pyarrow reads"
    )
    extract.add_argument("--out", type=Path, required=True)
    extract.add_argument(
        "--base", type=Path, help="the space whose encoders look; the shipped one if not given"
    )
    extract.set_defaults(do=_extract, confined=False)
    return parser.parse_args(argv)


def _end_with_parent() -> None:
    """Wait for the end of standard input, then end the process at once, in the middle of whatever it does."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(3)


def _say(event: str, **fields: Any) -> None:
    if int(os.environ.get("RANK") or 0):
        return
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
