"""A tiny space on two towers as `manage.py add_space` leaves it, its graphs written by hand: no torch, in a moment.

Both towers see colours only: a text by the words for them that it holds, a picture by its mean.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from ml.alignment.installed import added_dir
from ml.alignment.storage import write_space
from ml.alignment.two_towers import TwoTowerSpace, all_axes
from ml.compression.graph import Graph
from ml.compression.store import FORMAT, MODEL, TOKENIZER, write_manifest

WORDS = ("[UNK]", "red", "green", "blue")
SIDE = 8
#: Numbers of a vector: red, green, blue, and one that all share.
WIDTH = 4


def write_added(name: str = "tiny", version: str = "1", *, languages: tuple[str, ...] = ("en", "zh")) -> str:
    """Write it among the prepared models; the slug."""
    slug = f"{name}-{version}"
    folder = added_dir() / slug
    _write_texts(folder / "text")
    _write_pictures(folder / "image")
    space = TwoTowerSpace(*np.full((2, WIDTH), [0, 0, 0, 0.4], np.float32), all_axes(WIDTH))
    manifest = {
        "id": name, "version": version, "kind": "two-tower", "dimension": WIDTH, "languages": list(languages),
        "encoders": {"text": f"added:{slug}#text", "image": [f"added:{slug}#image"], "text_version": "1"},
    }  # fmt: skip
    write_space(folder, space.arrays(), manifest)
    return slug


def _write_texts(folder: Path) -> None:
    folder.mkdir(parents=True)
    graph = Graph()
    table = np.eye(len(WORDS), WIDTH, -1, np.float32)
    table[:, WIDTH - 1] = 0.5
    words = graph.add("Gather", graph.constant(table), "input_ids")
    pooled = graph.add("ReduceMean", words, graph.constant(np.array([1])), keepdims=0)
    _finish(graph, pooled, folder, "input_ids", ("n", "m"), 7)
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token=WORDS[0]))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["[UNK]"])
    tokenizer.save(str(folder / TOKENIZER))
    steps = {"max_tokens": 16, "pad": {"length": 0, "token": 0}, "mask": False}
    _vouch(folder, "text", steps)


def _write_pictures(folder: Path) -> None:
    folder.mkdir(parents=True)
    graph = Graph()
    pixels = graph.add("Cast", "pixels", to=1)
    mean = graph.add("ReduceMean", pixels, graph.constant(np.array([1, 2])), keepdims=0)
    shares = np.eye(3, WIDTH, dtype=np.float32) / 255
    colours = graph.add("Add", graph.add("MatMul", mean, graph.constant(shares)), graph.constant(_shared()))
    _finish(graph, colours, folder, "pixels", ("n", SIDE, SIDE, 3), 2)
    steps = {"resize": [SIDE, SIDE], "crop": None, "resample": 3, "size": [SIDE, SIDE]}
    _vouch(folder, "image", steps)


def _shared() -> np.ndarray:
    return np.array([0, 0, 0, 0.3], np.float32)


def _finish(graph: Graph, rows: str, folder: Path, name: str, shape: tuple, kind: int) -> None:
    import onnx
    from onnx import TensorProto, helper

    norm = graph.add("ReduceL2", rows, graph.constant(np.array([-1])), keepdims=1)
    graph.add("Div", rows, norm, output="vectors")
    output = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ("n", WIDTH))
    onnx.save(graph.model([helper.make_tensor_value_info(name, kind, shape)], output), str(folder / MODEL))


def _vouch(folder: Path, modality: str, steps: dict) -> None:
    entry = {
        "modality": modality,
        "dimension": WIDTH,
        "version": "1-tiny",
        "preparation": steps,
        "spec": "tiny",
    }
    write_manifest(folder, FORMAT, {"encoder": entry})
