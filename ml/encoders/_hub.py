"""Find a Hugging Face model: a local folder, the local cache, or the hub if it answers within seconds."""

from __future__ import annotations

import os
from pathlib import Path

from ml.encoders.base import EncoderUnavailable

PROBE_SECONDS = 5.0

#: What is fetched: configuration, tokenizer and weights in safetensors. No pickles, no code.
PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model"]


def model_folder(name: str) -> Path:
    """The folder with the files of ``name`` (a path or a hub id). Raises EncoderUnavailable."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or name.startswith((".", "~")):
        raise EncoderUnavailable(f"there is no model folder {name!r}")
    return _cached(name) or _downloaded(name)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model. Raises EncoderUnavailable where there are none."""
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise EncoderUnavailable(
            f"{folder} has no *.safetensors: other weight formats can run code on loading and are refused; "
            "convert the model with save_pretrained(…) first"
        )
    return found


def _cached(name: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, local_files_only=True, allow_patterns=PATTERNS))
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise EncoderUnavailable(f"{name!r} is neither a folder nor a hub id: {error}") from None
    # A download that was cut off leaves a snapshot without weights.
    complete = (folder / "config.json").exists() and any(folder.glob("*.safetensors"))
    return folder if complete else None


def _downloaded(name: str) -> Path:
    """Ask the hub once with a short limit before downloading: its client retries for minutes otherwise."""
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if constants.HF_HUB_OFFLINE:
        raise EncoderUnavailable(_advice(name, "HF_HUB_OFFLINE is set and it is not in the cache"))
    try:
        HfApi().model_info(name, timeout=PROBE_SECONDS)
        return Path(snapshot_download(name, allow_patterns=PATTERNS))
    except (RepositoryNotFoundError, GatedRepoError) as error:
        problem = "it does not exist, or it is private or gated and needs HF_TOKEN"
        raise EncoderUnavailable(_advice(name, problem)) from error
    except Exception as error:
        # The client's errors come from whichever HTTP library it uses this year; all mean: not now.
        raise EncoderUnavailable(
            _advice(name, f"the hub does not answer ({type(error).__name__})")
        ) from error


def _advice(name: str, problem: str) -> str:
    home = os.environ.get("HF_HOME", "~/.cache/huggingface")
    return (
        f"model {name!r} cannot be loaded: {problem}. Give the path of a local folder (hf:/path/to/model), "
        f"set HF_HOME to a cache that holds it (now {home}), or check the network and HF_ENDPOINT"
    )
