"""Files of a model from the Hugging Face hub at one commit, or of a folder: only those that are needed, with digests.

The hub's protocol is two addresses: what a revision is and holds (``/api/models/NAME/revision/REVISION``), each file at
a commit (``/NAME/resolve/COMMIT/FILE``). Every wait has a limit, and so has the whole; what the hub says of a file
(size, SHA-256 or git's SHA-1) has to be what came. HF_ENDPOINT and HF_TOKEN are those of the hub's own client.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ml.compression.store import sha256

#: What a model is configured and read by; exact names, so that none leads out of the folder.
SMALL_FILES = frozenset(
    {
        "config.json", "open_clip_config.json", "preprocessor_config.json", "processor_config.json",
        "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
        "merges.txt", "vocab.txt", "spiece.model", "tokenizer.model",
    }
)  # fmt: skip
INDEX = "model.safetensors.index.json"
#: One of these is taken, the first that there is; or the parts that INDEX names.
WHOLE_WEIGHTS = ("model.safetensors", "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
_PART = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(?:/[A-Za-z0-9][\w.-]{0,95})?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
CHUNK = 1 << 20


class AddingError(RuntimeError):
    """The space was not added, and nothing of it is left; the message says why and, where it is known, what helps."""


@dataclass(frozen=True)
class Limits:
    """How much is fetched, and for how long. Sizes in bytes."""

    total_bytes: int = 8 << 30
    small_bytes: int = 64 << 20  #: of a file that is not weights
    connect_s: float = 10.0
    silence_s: float = 30.0  #: without a byte
    question_s: float = 60.0  #: what a revision holds
    total_s: float = 3600.0


@dataclass(frozen=True)
class Source:
    """A folder with a model's files, and where they are from."""

    folder: Path
    name: str
    commit: str  #: empty for a folder
    licence: str  #: as the hub's card says; empty where it does not
    files: dict[str, dict[str, Any]]  #: SHA-256 and bytes of each

    @property
    def weight_bytes(self) -> int:
        return sum(one["bytes"] for name, one in self.files.items() if name.endswith(".safetensors"))

    def as_dict(self) -> dict[str, Any]:
        """For the space's manifest."""
        return {"name": self.name, "commit": self.commit, "licence": self.licence, "files": self.files}


def take_folder(folder: Path) -> Source:
    """A folder on this machine. Raises AddingError where it holds nothing that is known here."""
    names = [path.name for path in sorted(folder.iterdir()) if path.is_file()]
    wanted = [name for name in names if name in SMALL_FILES or name == INDEX or name.endswith(".safetensors")]
    if not wanted:
        raise AddingError(f"{folder} holds no model")
    return Source(folder, str(folder), "", "", {name: _stamp(folder / name) for name in wanted})


def fetch(
    name: str,
    revision: str,
    into: Path,
    limits: Limits,
    tell: Callable[[str], None],
    require_room: Callable[[int], None],
) -> Source:
    """The files of a repository of the hub. ``require_room`` is asked with the size of the weights before any comes.

    Raises AddingError: also for a hub that is silent, slow beyond the limits, or sends other bytes than it announced.
    """
    if not _REPOSITORY.fullmatch(name):
        raise AddingError(f"{name!r} is no name of a repository: owner/model")
    hub = _Hub(limits)
    try:
        held = hub.describe(name, revision)
        tell(f"{name} at {held.commit}")
        into.mkdir(parents=True)
        hub.take(held, [one for one in held.sizes if one in SMALL_FILES or one == INDEX], into)
        weights = held.weights(into)
        size = sum(held.sizes[one] for one in weights)
        if size > limits.total_bytes:
            raise AddingError(
                f"its weights are {size / 1e9:.1f} GB, and at most {limits.total_bytes / 1e9:.1f} GB are fetched: "
                "say --max-gb"
            )
        require_room(size)
        tell(f"fetching {size / 1e6:,.0f} MB of weights")
        hub.take(held, weights, into)
    finally:
        hub.close()
    files = {path.name: _stamp(path) for path in sorted(into.iterdir())}
    return Source(into, name, held.commit, held.licence, files)


def _stamp(path: Path) -> dict[str, Any]:
    return {"sha256": sha256(path), "bytes": path.stat().st_size}


@dataclass(frozen=True)
class Held:
    """What a repository holds at a commit."""

    name: str
    commit: str
    licence: str
    sizes: dict[str, int]
    digests: dict[str, str]  #: ``sha256:…`` or ``git:…``

    def weights(self, folder: Path) -> list[str]:
        """The files of weights. Raises AddingError where there are only pickled ones, or parts are missing."""
        for name in WHOLE_WEIGHTS:
            if name in self.sizes:
                return [name]
        if INDEX in self.sizes:
            return self._parts(folder / INDEX)
        pickled = sorted(name for name in self.sizes if "/" not in name and name.endswith(PICKLED))
        if pickled:
            raise AddingError(
                f"its weights are pickled ({pickled[0]}), which can run code on loading, and are refused. Take a "
                "revision with safetensors (--revision refs/pr/… of many repositories), or convert them where you "
                "trust them and name the folder"
            )
        raise AddingError(f"{self.name} holds no weights in safetensors")

    def _parts(self, index: Path) -> list[str]:
        try:
            parts = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise AddingError(f"its {INDEX} cannot be read: {error}") from error
        if missing := [one for one in parts if not _PART.fullmatch(str(one)) or one not in self.sizes]:
            raise AddingError(f"its {INDEX} names {missing[0]!r}, which is not there")
        return parts


class _Hub:
    """One hub, for as long as ``limits`` allow."""

    def __init__(self, limits: Limits) -> None:
        import requests
        from huggingface_hub import constants, get_token

        if constants.HF_HUB_OFFLINE:
            raise AddingError("HF_HUB_OFFLINE is set: name a folder, hf:/path/to/model")
        self._limits = limits
        self._until = time.monotonic() + limits.total_s
        self._endpoint = constants.ENDPOINT.rstrip("/")
        self._session = requests.Session()
        # Sizes and digests are those of the file itself.
        self._session.headers["Accept-Encoding"] = "identity"
        if token := get_token():
            self._session.headers["Authorization"] = f"Bearer {token}"

    def close(self) -> None:
        self._session.close()

    def describe(self, name: str, revision: str) -> Held:
        """Raises AddingError."""
        url = f"{self._endpoint}/api/models/{name}/revision/{quote(revision, safe='')}?blobs=true"
        body = bytearray()
        until = min(self._until, time.monotonic() + self._limits.question_s)
        self._read(url, body.extend, self._limits.small_bytes, until, f"{name} at {revision}")
        try:
            found = json.loads(body)
            commit, siblings = found["sha"], found["siblings"]
            sizes = {one["rfilename"]: int(one.get("size") or 0) for one in siblings}
            digests = {one["rfilename"]: _digest_of(one) for one in siblings}
            card = found.get("cardData") or {}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise AddingError(f"what the hub says of {name} cannot be read: {error}") from error
        if not _COMMIT.fullmatch(str(commit)):
            raise AddingError(f"the hub names no commit for {revision!r} of {name}")
        return Held(name, commit, str(card.get("license") or ""), sizes, digests)

    def take(self, held: Held, names: list[str], into: Path) -> None:
        """Raises AddingError."""
        for name in names:
            small = not name.endswith(".safetensors")
            most = self._limits.small_bytes if small else held.sizes[name]
            if held.sizes[name] > most:
                raise AddingError(f"its {name} is {held.sizes[name] / 1e6:,.0f} MB, too large to be one")
            url = f"{self._endpoint}/{held.name}/resolve/{held.commit}/{quote(name)}"
            with (into / name).open("wb") as file:
                self._read(url, file.write, most, self._until, name)
            _require_digest(into / name, held.digests[name])

    def _read(self, url: str, write: Callable[[bytes], Any], most: int, until: float, what: str) -> None:
        import requests
        import urllib3

        limits = self._limits
        try:
            with self._session.get(url, stream=True, timeout=(limits.connect_s, limits.silence_s)) as answer:
                _require_found(answer, what)
                count = 0
                # What is there now, at most a chunk: a hub that drips is noticed, too.
                while chunk := answer.raw.read1(CHUNK):
                    count += len(chunk)
                    if count > most:
                        raise AddingError(f"the hub sends more of {what} than it announced")
                    write(chunk)
                    if time.monotonic() > until:
                        raise AddingError(f"the hub is too slow: {what} did not come within the time limit")
        except (requests.RequestException, urllib3.exceptions.HTTPError, TimeoutError) as error:
            raise AddingError(
                f"the hub at {self._endpoint} does not answer for {what} ({type(error).__name__}). Check the network "
                "and HF_ENDPOINT, or name a folder: hf:/path/to/model"
            ) from error


def _require_found(answer: Any, what: str) -> None:
    if answer.status_code in (401, 403, 404):
        raise AddingError(
            f"the hub has no {what}, or it is private or gated and needs HF_TOKEN (status {answer.status_code})"
        )
    if answer.status_code != 200:
        raise AddingError(f"the hub answers with status {answer.status_code} for {what}")


def _digest_of(sibling: dict[str, Any]) -> str:
    lfs = sibling.get("lfs")
    return f"sha256:{lfs['sha256']}" if lfs else f"git:{sibling.get('blobId', '')}"


def _require_digest(path: Path, announced: str) -> None:
    kind, _, digest = announced.partition(":")
    found = sha256(path) if kind == "sha256" else _git_digest(path)
    if found != digest:
        raise AddingError(
            f"{path.name} is not the file that the hub announced: its digest is another. Run it again"
        )


def _git_digest(path: Path) -> str:
    """Git's name of a file's content, which is no protection against forgery, but against damage."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
