"""Pretrained pipelines of diffusers and models of transformers: found on this machine, loaded once, told apart.

Nothing is fetched: what an installation makes pictures with is the operator's choice, and some gigabytes. Weights are
read from safetensors only, and no code that lies beside them is run.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import re
import resource
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from ml.generators._marked import out_of_memory
from ml.generators.base import GenerationError, GenerationParams, Generator, Pixels, Step, Watch

PREVIEW_EVERY = 5
#: As safetensors itself allows.
MAX_HEADER = 100_000_000
#: Latents are reduced to so many on a side before a preview is decoded.
PREVIEW_LATENTS = 32


class Pretrained(Generator):
    """A generator around a folder of ``diffusers`` or ``transformers``. Loads at the first use."""

    #: One of these files says what is in the folder.
    files: Sequence[str] = ("model_index.json",)
    packages: Sequence[str] = ("torch", "diffusers", "transformers")

    def __init__(self, plugin: str, path: str) -> None:
        self.name, self._path = f"{plugin}:{path}", path

    @property
    def model(self) -> str:  # type: ignore[override]
        folder = self._found()
        return f"{self._path} {_digest(folder)}" if folder else self._path

    def missing(self) -> str:
        absent = [package for package in self.packages if find_spec(package) is None]
        return f"{' and '.join(absent)} not installed: pip install {' '.join(absent)}" if absent else ""

    def _found(self) -> Path | None:
        return local_folder(self._path, self.files)

    def folder(self) -> Path:
        """Raises GenerationError: ``no-such-model`` or ``unreadable``."""
        if (folder := self._found()) is None:
            raise GenerationError("no-such-model", advice(self._path))
        if not any(folder.rglob("*.safetensors")):
            raise GenerationError(
                "unreadable",
                f"{self._path!r} has no *.safetensors: other formats can run code on loading and are refused.",
            )
        return folder

    @cached_property
    def pipeline(self) -> Any:
        """The pipeline on the best device here, silent. Raises GenerationError."""
        import diffusers

        return loaded(self._path, diffusers.DiffusionPipeline.from_pretrained, self.folder())


def local_folder(path: str, files: Sequence[str]) -> Path | None:
    """The folder of a path or hub id with one of ``files`` in it, if it is on this machine."""
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder if any((folder / name).is_file() for name in files) else None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = [try_to_load_from_cache(path, name) for name in files]
    except HFValidationError:
        return None
    return next((Path(one).parent for one in found if isinstance(one, str)), None)


def advice(path: str) -> str:
    return (
        f"There is no model {path!r} on this machine, and none is fetched: put it there with"
        f" `hf download {path or 'ORGANISATION/MODEL'}` (into HF_HOME), or give the path of its folder."
    )


def _digest(folder: Path) -> str:
    """Digits over what describes the model, and the sizes of its weights; reading gigabytes would take too long."""
    seen = hashlib.sha256()
    for path in sorted(folder.rglob("*.json")):
        seen.update(path.read_bytes())
    for path in sorted(folder.rglob("*.safetensors")):
        seen.update(f"{path.name} {path.stat().st_size}".encode())
    return seen.hexdigest()[:12]


def loaded(path: str, load: Any, folder: Path) -> Any:
    """A pipeline by ``load``, which is some ``from_pretrained``. Raises GenerationError, MemoryError."""
    import torch

    quiet()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        files, variant = weights_of(folder)
        if device == "cpu":
            # Of a GPU's memory too little is an error that can be caught.
            require_room(path, 4 * sum(numbers_in(file) for file in files))
        pipeline = load(
            str(folder),
            dtype=torch.float16 if device == "cuda" else torch.float32,
            variant=variant,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        ).to(device)
    except GenerationError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        # Damaged or foreign files raise whatever the reader of that part raises.
        raise GenerationError("unreadable", f"{path!r} cannot be loaded: {str(error)[:300]}") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


_VARIANT = re.compile(r"\.(\w+?)(?:-\d+-of-\d+)?\.safetensors$")


def weights_of(folder: Path) -> tuple[list[Path], str | None]:
    """Which files of a pipeline's folder are loaded, and their variant: None for the plain ones, else such as ``fp16``,
    where a part has no others."""
    parts = json.loads((folder / "model_index.json").read_text("utf-8"))
    found: list[dict[str, list[Path]]] = []
    for name in sorted(parts):
        variants: dict[str, list[Path]] = {}
        for file in sorted((folder / name).glob("*.safetensors")) if (folder / name).is_dir() else ():
            named = _VARIANT.search(file.name)
            variants.setdefault(named[1] if named else "", []).append(file)
        found += [variants] if variants else []
    lacking = [variants for variants in found if "" not in variants]
    variant = min(lacking[0], key=lambda one: (one != "fp16", one)) if lacking else ""
    return [file for one in found for file in one.get(variant, one.get("", []))], variant or None


def numbers_in(file: Path) -> int:
    """How many weights a file of safetensors has, by its header."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > MAX_HEADER:
            raise ValueError(f"{file.name} is no file of safetensors")
        header = json.loads(stream.read(length))
    return sum(math.prod(one["shape"]) for name, one in header.items() if name != "__metadata__")


def require_room(path: str, needed: int) -> None:
    """Raises GenerationError where fewer bytes of memory are free than these: the system would end the process and its
    job, again and again, and say nothing."""
    if needed > (free := free_memory()):
        raise GenerationError(
            "out-of-memory",
            f"{path!r} takes {needed / 1e9:.1f} GB of memory on a processor, and {free / 1e9:.1f} GB are free:"
            " give the worker more, or choose a smaller model.",
        )


def free_memory() -> int:
    """Bytes that this process may still take: of the machine, of its control group, of its own limit."""
    rooms = [psutil.virtual_memory().available]
    most, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if most != resource.RLIM_INFINITY:
        rooms.append(most - psutil.Process().memory_info().data)
    group = Path("/sys/fs/cgroup")
    try:
        granted, stat = (
            (group / "memory.max").read_text().strip(),
            (group / "memory.stat").read_text().split(),
        )
    except OSError:
        granted, stat = "max", []
    if granted != "max":
        # Without files that were read, as the kernel drops those.
        rooms.append(int(granted) - int(stat[stat.index("anon") + 1]))
    return max(0, min(rooms))


def quiet() -> None:
    """Without progress bars on standard error, which is a worker's log."""
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()


# --- Calling ---


def seeded(batch: Sequence[GenerationParams]) -> list[Any]:
    """A random generator for each row, on the processor: the same picture on every device, in every batch."""
    import torch

    return [torch.Generator("cpu").manual_seed(params.seed) for params in batch]


class Counting:
    """Counts steps over groups of a batch, and shows previews."""

    def __init__(self, watch: Watch, total: int) -> None:
        self._watch, self._total, self.done = watch, total, 0

    def step(self, pipeline: Any = None, latents: Any = None) -> None:
        self.done += 1
        shown = None
        if latents is not None and self.done % PREVIEW_EVERY == 0:
            shown = preview(pipeline, latents)
        self._watch(Step(min(self.done, self._total), self._total, shown))


def called(pipeline: Any, batch: Sequence[GenerationParams], counting: Counting, **more: Any) -> Any:
    """One call for a batch of one shape; arguments that this class of pipeline does not know are left out."""
    import torch

    params = batch[0]
    asked = {
        "prompt": [one.prompt for one in batch],
        "negative_prompt": [one.negative for one in batch] if any(one.negative for one in batch) else None,
        "num_inference_steps": params.steps,
        "guidance_scale": params.guidance,
        "generator": seeded(batch),
        **more,
        **_callbacks(pipeline, counting),
    }
    known = inspect.signature(pipeline.__call__).parameters
    with torch.inference_mode(), freed():
        return pipeline(
            **{name: value for name, value in asked.items() if name in known and value is not None}
        )


def _callbacks(pipeline: Any, counting: Counting) -> Mapping[str, Any]:
    def at_end(pipe: Any, step: int, timestep: Any, seen: dict[str, Any]) -> dict[str, Any]:
        counting.step(pipeline, seen.get("latents"))
        return seen

    def older(step: int, timestep: Any, latents: Any) -> None:
        counting.step(pipeline, latents)

    # Pipelines of one kind know one, older ones the other.
    return {"callback_on_step_end": at_end, "callback": older, "callback_steps": 1}


@contextmanager
def freed() -> Iterator[None]:
    """After a failure the memory of a GPU is given back, so that a smaller one can be granted."""
    import torch

    try:
        yield
    except BaseException:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise


def preview(pipeline: Any, latents: Any) -> Pixels | None:
    """A small picture of the first row; None where latents are not a plain picture or film of the VAE."""
    from torch.nn import functional

    vae = getattr(pipeline, "vae", None)
    if vae is None or latents.ndim not in (4, 5):
        return None
    first = latents[:1] if latents.ndim == 4 else latents[:1, :, latents.shape[2] // 2]
    if first.shape[1] != getattr(vae.config, "latent_channels", 0):
        return None
    scale = min(1.0, PREVIEW_LATENTS / max(first.shape[2:]))
    small = functional.interpolate(first, scale_factor=scale, mode="area") if scale < 1 else first
    decoded = vae.decode(small / vae.config.scaling_factor + (vae.config.get("shift_factor") or 0)).sample
    if decoded.ndim != 4 or decoded.shape[1] != 3:
        return None
    return levels((decoded[0].permute(1, 2, 0) / 2 + 0.5).float().cpu().numpy())


def levels(values: Any) -> Pixels:
    """Floats in 0..1 as bytes; a model that overflowed gives black, not a crash."""
    clean = np.nan_to_num(np.asarray(values, np.float32), nan=0.0)
    return np.rint(np.clip(clean, 0, 1) * 255).astype(np.uint8)


def alike(batch: Sequence[GenerationParams]) -> Iterator[list[GenerationParams]]:
    """Neighbours that one call can draw."""

    def shape(params: GenerationParams) -> tuple[float, ...]:
        return params.steps, params.guidance, params.width, params.height, params.seconds

    for _, group in groupby(batch, key=shape):
        yield list(group)


def padded(side: int, multiple: int = 16) -> int:
    return -(-side // multiple) * multiple


def cropped(pixels: Pixels, params: GenerationParams) -> Pixels:
    """The middle of [..., h, w, 3] at the size asked for."""
    height, width = pixels.shape[-3:-1]
    top, left = (height - params.height) // 2, (width - params.width) // 2
    return np.ascontiguousarray(pixels[..., top : top + params.height, left : left + params.width, :])
