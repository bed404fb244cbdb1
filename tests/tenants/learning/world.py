"""Small worlds for learning: pictures of shapes with captions, and models as if they had been trained."""

from __future__ import annotations

import io
import itertools
import json
import shutil
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ml.alignment.space import SHIPPED
from tenants.datasets.models import Asset, Blob
from tenants.datasets.services import create_dataset
from tenants.learning import services
from tenants.learning.models import LearntModel
from tenants.pipeline.assets.services import add_asset
from tenants.retrieval import model_routing
from tenants.retrieval.index.vectors import NewVector, add_vectors
from tenants.scope import tenant_scope

COLOURS = ("red", "green", "blue", "yellow", "black", "purple")
SHAPES = ("circle", "square", "triangle", "cross")
SIZES = ("small", "large", "tiny")
WORDS = tuple(" ".join(words) for words in itertools.product(SIZES, COLOURS, SHAPES))


class Space:
    """Sees the mean colour and reads the length: quick, and told apart."""

    encoders_key = "fake"

    def __init__(self):
        self.seen = 0

    def see(self, images):
        self.seen += len(images)
        means = np.stack([image.reshape(-1, 3).mean(axis=0) for image in images]) / 255
        wide = np.zeros((len(images), 1000), np.float32)
        wide[:, :3] = means
        return SimpleNamespace(probabilities=wide, features=means, colours=np.zeros((len(images), 11)))

    def read(self, texts):
        vectors = np.zeros((len(texts), 384), np.float32)
        vectors[:, 0] = [len(text) for text in texts]
        return SimpleNamespace(vectors=vectors, colours=np.zeros((len(texts), 11)))


def drawing(words: str, seed: int = 0) -> bytes:
    """A PNG of what the words say, such as `small red circle`, on a patchwork that no other seed has.

    On one plain ground all would count as nearly the same picture.
    """
    size, colour, shape = words.split()
    random = np.random.default_rng(seed)
    patches = random.integers(0, 256, (*random.integers(1, 9, 2), 3), np.uint8)
    ground = Image.fromarray(patches).resize((96, 96), Image.Resampling(int(random.choice([0, 2]))))
    half = {"tiny": 10, "small": 20, "large": 40}[size]
    x, y = random.integers(half, 96 - half + 1, 2).tolist()
    box = (x - half, y - half, x + half, y + half)
    draw = ImageDraw.Draw(ground)
    if shape == "circle":
        draw.ellipse(box, fill=colour)
    elif shape == "square":
        draw.rectangle(box, fill=colour)
    elif shape == "triangle":
        draw.polygon([(x, box[1]), (box[2], box[3]), (box[0], box[3])], fill=colour)
    else:
        draw.line([(box[0], y), (box[2], y)], fill=colour, width=half // 2)
        draw.line([(x, box[1]), (x, box[3])], fill=colour, width=half // 2)
    sink = io.BytesIO()
    ground.save(sink, "PNG")
    return sink.getvalue()


def new_dataset(name: str = "") -> Any:
    return create_dataset(name=name or uuid.uuid4().hex)


def add_picture(
    dataset: Any, content: bytes, caption: str = "", *, ready: bool = True, **fields: Any
) -> Asset:
    """An asset as its job leaves it, without vectors. In a scope."""
    asset = add_asset(dataset_id=dataset.id, file=io.BytesIO(content), text=caption).asset
    Asset.objects.filter(pk=asset.pk).update(**fields)
    if ready:
        Asset.objects.filter(pk=asset.pk).update(status=Asset.State.READY)
        Blob.objects.filter(pk=asset.blob_id).update(width=96, height=96)
    return Asset.objects.select_related("blob").get(pk=asset.pk)


def add_pairs(dataset: Any, count: int) -> list[Asset]:
    """Different drawings with their words as captions. In a scope."""
    return [add_picture(dataset, drawing(words, n), words) for n, words in enumerate(WORDS[:count])]


def unit(*numbers: float) -> np.ndarray:
    """A vector float32 [256] of norm 1 that begins so."""
    values = np.zeros(256, np.float32)
    values[: len(numbers)] = numbers
    return values / np.linalg.norm(values)


def embed(asset: Asset, model: str, values: np.ndarray, modality: str = "image") -> None:
    add_vectors(model=model, vectors=[(asset, [NewVector(modality, values)])])


def new_model(
    tenant_id: uuid.UUID, *, state: str = LearntModel.State.CANDIDATE, **fields: Any
) -> LearntModel:
    """A model whose space is the shipped one under another name."""
    with tenant_scope(tenant_id):
        number = services.next_number()
        made = {
            "name": f"m{uuid.uuid4().hex[:8]}",
            "base": model_routing.default_model(),
            "stage": "adapt",
            "method": "heads",
        }
        return LearntModel.objects.create(number=number, state=state, **{**made, **fields})


def with_files(row: LearntModel, folder: Path, *, chinese: bool = True) -> LearntModel:
    """Keep its space in the storage. In no scope."""
    space, _, version = row.space.rpartition(":")
    made = write_space(folder / str(row.id), space, version, chinese=chinese)
    model_routing.keep_space(tenant_id=row.tenant_id, model=row.space, folder=made)
    return row


def write_space(folder: Path, space: str, version: str, *, chinese: bool = True) -> Path:
    """The shipped space under another name; with `chinese` as it is by default, else as the one that reads English."""
    shutil.copytree(SHIPPED, folder)
    read_from = SHIPPED.parent / ("prior-2" if chinese else "prior-1")
    manifest = json.loads((read_from / "manifest.json").read_text())
    manifest.pop("tensors", None)
    (folder / "manifest.json").write_text(json.dumps({**manifest, "id": space, "version": version}))
    return folder
