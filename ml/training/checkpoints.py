"""Where a run stands, on disk: tensors as safetensors, the rest as JSON with their digest. Whole or not there at all.

``checkpoints/000042/`` holds ``state.safetensors`` and ``state.json``. The folder is written beside and renamed. The
last two are kept: a damaged one is passed over. There is no state of random numbers in it, because chance in a run
depends on the position alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

TENSORS = "state.safetensors"
STATE = "state.json"
KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """``tensors`` are the model's and the optimizer's under dotted names, ``state`` is JSON."""

    tensors: dict[str, torch.Tensor]
    state: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run in one folder; only one process writes."""

    def __init__(self, folder: Path, warn: Callable[[str, str], None]) -> None:
        self.folder, self._warn = folder, warn

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write the next one and remove those before the last two."""
        from safetensors.torch import save

        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.folder / f"{self._next():06d}"
        part = target.with_name(f".{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        content = save(
            {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
        )
        body = {"sha256": hashlib.sha256(content).hexdigest(), "state": checkpoint.state}
        _write(part / TENSORS, content)
        _write(part / STATE, (json.dumps(body, indent=1, sort_keys=True) + "\n").encode())
        part.rename(target)
        for old in self._folders()[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        return target

    def latest(self, fits: Callable[[dict[str, Any]], bool]) -> Checkpoint | None:
        """The newest whole one whose state ``fits``, None to start anew; what is passed over is warned of."""
        for found in self._read(reversed(self._folders())):
            if fits(found.state):
                return found
            self._warn(
                "other_run", "The checkpoints are of another recipe or other data: training starts anew."
            )
            self.clear()
            return None
        return None

    def clear(self) -> None:
        """Remove all of them."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self, folders: Iterator[Path]) -> Iterator[Checkpoint]:
        damaged = False
        for folder in folders:
            try:
                yield _read(folder)
                return
            except (OSError, ValueError, KeyError) as error:
                damaged = True
                self._warn(
                    "damaged_checkpoint", f"Checkpoint {folder.name} is damaged and passed over: {error}"
                )
        if damaged:
            self._warn("starts_anew", "No checkpoint is whole: training starts anew.")

    def _folders(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(one for one in self.folder.iterdir() if one.name.isdigit())

    def _next(self) -> int:
        folders = self._folders()
        return int(folders[-1].name) + 1 if folders else 0


def _read(folder: Path) -> Checkpoint:
    from safetensors import SafetensorError
    from safetensors.torch import load

    body = json.loads((folder / STATE).read_text("utf-8"))
    content = (folder / TENSORS).read_bytes()
    if not isinstance(body, dict) or hashlib.sha256(content).hexdigest() != body["sha256"]:
        raise ValueError("its digest does not fit")
    try:
        return Checkpoint(load(content), body["state"])
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
