"""What a folder of a model holds, and whether it can become a space: known architecture, tokenizer, sound weights.

Nothing of the folder is run: its configuration is read as JSON, its weights as safetensors. A model that needs code of
its own repository is refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml.hub import open_clip
from ml.hub.fetching import AddingError

CONFIG = "config.json"
OPEN_CLIP = "open_clip_config.json"
#: Architectures of transformers with two towers that end in one space, and what their pictures and texts need is known.
SUPPORTED = frozenset({"clip", "siglip", "chinese_clip"})
#: Why others are not.
REASONS = {
    "siglip2": "its pictures are cut into patches of a varying number (NaFlex), which no export here does; "
    "take a checkpoint with one resolution, such as siglip2-base-patch16-224",
    "jina_clip": "it needs code from its repository, which is never run",
    "clip_vision_model": "it holds a picture tower alone",
    "clip_text_model": "it holds a text tower alone",
    "siglip_vision_model": "it holds a picture tower alone",
    "siglip_text_model": "it holds a text tower alone",
}
#: Files of which one whole set makes a tokenizer.
TOKENIZERS = (
    {"tokenizer.json"},
    {"vocab.json", "merges.txt"},
    {"vocab.txt"},
    {"spiece.model"},
    {"tokenizer.model"},
)
#: How pictures are brought to size.
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
#: Weights that are unpickled, which can run code.
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
#: Configurations beyond this size are none.
LARGEST_CONFIG = 4 << 20


@dataclass(frozen=True)
class Layout:
    """A folder that can be loaded with transformers."""

    folder: Path
    kind: str  #: the architecture, as transformers calls it, or ``open_clip``
    matryoshka: tuple[
        int, ...
    ]  #: numbers of a vector whose beginning is a vector too, as its configuration says


def read_layout(folder: Path, scratch: Path) -> Layout:
    """What lies in ``folder``; OpenCLIP's files are written into ``scratch`` as transformers' own.

    Raises AddingError.
    """
    _require_safetensors(folder)
    if (folder / CONFIG).is_file():
        config, kind = _read_config(folder / CONFIG), ""
    elif (folder / OPEN_CLIP).is_file():
        _require_tokenizer(folder)
        config, kind = open_clip.convert(_read_config(folder / OPEN_CLIP), folder, scratch), "open_clip"
        folder = scratch
    else:
        raise AddingError(
            f"it holds neither {CONFIG} nor {OPEN_CLIP}: not a model of transformers or OpenCLIP"
        )
    _require_supported(config)
    _require_tokenizer(folder)
    if not any((folder / name).is_file() for name in PROCESSORS):
        raise AddingError(f"it has no image processor: {PROCESSORS[0]}")
    _require_finite(folder)
    return Layout(folder, kind or str(config["model_type"]), _matryoshka(config))


def _require_safetensors(folder: Path) -> None:
    if any(folder.glob("*.safetensors")):
        return
    if pickled := sorted(path.name for pattern in PICKLES for path in folder.glob(pattern)):
        raise AddingError(
            f"its weights are pickled ({pickled[0]}), which can run code on loading, and are refused. Take a revision "
            "with safetensors (refs/pr/… of many repositories), or convert them where you trust them: "
            "AutoModel.from_pretrained(…).save_pretrained(folder)"
        )
    raise AddingError("it holds no weights in safetensors")


def _read_config(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise AddingError(f"its {path.name} is too large to be one")
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise AddingError(f"its {path.name} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise AddingError(f"its {path.name} is no JSON object")
    return config


def _require_supported(config: dict[str, Any]) -> None:
    kind = config.get("model_type")
    if kind in SUPPORTED:
        return
    if "auto_map" in config:
        reason = REASONS["jina_clip"]
    else:
        reason = REASONS.get(str(kind), "only two towers that meet in one space can become one")
    raise AddingError(
        f"the architecture {kind!r} is not supported: {reason}. Supported: {', '.join(sorted(SUPPORTED))}, OpenCLIP"
    )


def _require_tokenizer(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    if not any(one <= names for one in TOKENIZERS):
        raise AddingError(
            "it has no tokenizer: tokenizer.json, or vocab.json with merges.txt, vocab.txt, spiece.model or "
            "tokenizer.model. Take those of the model that it was trained from"
        )


def _require_finite(folder: Path) -> None:
    import torch
    from safetensors import SafetensorError, safe_open

    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (a file of tensors, no mapping)
                    values = tensors.get_tensor(name)
                    if values.is_floating_point() and not torch.isfinite(values).all():
                        raise AddingError(
                            f"the weights {name!r} in {path.name} hold numbers that are none (NaN)"
                        )
        except (SafetensorError, OSError) as error:
            raise AddingError(f"{path.name} is no safetensors file, or is damaged: {error}") from error


def _matryoshka(config: dict[str, Any]) -> tuple[int, ...]:
    """As Matryoshka models of the hub state it; empty where it is not said."""
    inner = config.get("text_config")
    found = config.get("matryoshka_dimensions") or (
        inner.get("matryoshka_dimensions") if isinstance(inner, dict) else None
    )
    if not isinstance(found, list):
        return ()
    return tuple(sorted(one for one in found if isinstance(one, int) and one > 0))
