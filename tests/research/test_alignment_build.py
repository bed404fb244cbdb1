"""Building a small space from a handful of phrases, and reading what was written."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from ml.alignment import layout
from ml.alignment.colours import colour_scores
from ml.alignment.features import ImageFeatures
from ml.alignment.space import SHIPPED, JointSpace, SpaceError
from ml.alignment.storage import write_space
from ml.alignment.vocabulary import Phrase
from research.alignment.build import Knowledge, build_arrays, manifest

KNOWLEDGE = Knowledge(
    dictionary=[Phrase("banana", (954,)), Phrase("tabby cat", (281,)), Phrase("sports car", (817,))],
    written=[
        Phrase("a yellow banana", (954,)),
        Phrase("a cat on a sofa", (281, 831)),
        Phrase("a fast car", (817, 751)),
    ],
    scenes=["a man eating", "a cat in a car"],
    general=["money", "a way of paying", "the weather"],
)


def bag_of_words(texts: Sequence[str]) -> np.ndarray:
    """A stand-in for MiniLM: every word has a fixed random direction."""
    return np.stack(
        [np.mean([_direction(word) for word in (text.split() or [""])], axis=0) for text in texts]
    )


def _direction(word: str) -> np.ndarray:
    vector = np.random.default_rng(zlib.crc32(word.encode())).normal(size=384).astype(np.float32)
    return vector / np.linalg.norm(vector)


class Words:
    def encode(self, batch: Sequence[str]) -> np.ndarray:
        return bag_of_words(batch) if batch else np.empty((0, 384), np.float32)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with a space made from KNOWLEDGE."""
    encoders = {"text": "bundled:minilm", "image": []}
    write_space(tmp_path, build_arrays(KNOWLEDGE, bag_of_words), manifest(KNOWLEDGE, encoders))
    return tmp_path


def seeing(*classes: int) -> ImageFeatures:
    """A grey picture that shows these classes."""
    row = np.full((1, 1000), 0.01 / 1000, np.float32)
    row[0, list(classes)] += 0.99 / len(classes)
    grey = colour_scores([np.full((8, 8, 3), 128, np.uint8)])
    return ImageFeatures(row, np.empty((1, 0), np.float32), grey)


def test_equal_phrases_give_equal_bytes(small: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    again = tmp_path_factory.mktemp("again")
    write_space(again, build_arrays(KNOWLEDGE, bag_of_words), manifest(KNOWLEDGE, {"text": "x", "image": []}))
    assert (again / "space.safetensors").read_bytes() == (small / "space.safetensors").read_bytes()


def test_words_find_the_picture_that_shows_their_class(small: Path) -> None:
    space = JointSpace.load(small, text_encoder=Words())
    pictures = np.concatenate([space.project_image(seeing(index)) for index in (954, 281, 817)])
    scores = space.embed_texts(["banana", "tabby cat", "a fast car"]) @ pictures.T
    assert scores.argmax(axis=1).tolist() == [0, 1, 2]


def test_a_text_meets_itself_more_than_any_other(small: Path) -> None:
    vectors = JointSpace.load(small, text_encoder=Words()).embed_texts(["the weather", "banana", "money", ""])
    np.testing.assert_allclose(np.diag(vectors @ vectors.T), 1.0, atol=1e-6)
    assert (vectors @ vectors.T - 2 * np.eye(4) < 0.999).all()


def test_the_dimensions_of_one_side_are_zero_on_the_other(small: Path) -> None:
    space = JointSpace.load(small, text_encoder=Words())
    text = space.embed_texts(["a red car"])
    picture = space.project_image(seeing(817, 751))
    assert not text[:, layout.SIGHT].any()
    assert not picture[:, layout.TEXT].any()
    assert text[:, layout.TEXT].any()


def test_a_picture_query_has_no_hub_bias(small: Path) -> None:
    space = JointSpace.load(small)
    picture = space.project_image(seeing(817))
    query = space.as_query(picture)
    assert query[0, layout.HUB] == 0.0
    assert np.linalg.norm(query) == pytest.approx(1.0)
    assert np.linalg.norm(picture) == pytest.approx(1.0)


def test_a_missing_space_says_where(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="there is no joint space in"):
        JointSpace.load(tmp_path / "nowhere")


def _flip(folder: Path) -> None:
    path = folder / "space.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _cut(folder: Path) -> None:
    path = folder / "space.safetensors"
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize("damage", [_flip, _cut])
def test_damaged_tensors_are_refused(small: Path, damage: Callable[[Path], None]) -> None:
    damage(small)
    with pytest.raises(SpaceError, match="is damaged: its SHA-256"):
        JointSpace.load(small)


def test_bytes_that_are_no_tensors_are_refused_even_with_their_digest(small: Path) -> None:
    import hashlib

    content = b"not a space"
    (small / "space.safetensors").write_bytes(content)
    _change(small, sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(SpaceError, match="is no safetensors file"):
        JointSpace.load(small)


def test_another_dimension_is_refused(small: Path) -> None:
    _change(small, dimension=512)
    with pytest.raises(SpaceError, match="dimension 512, this code reads 256"):
        JointSpace.load(small)


def test_a_broken_manifest_is_refused(small: Path) -> None:
    (small / "manifest.json").write_text("{")
    with pytest.raises(SpaceError, match="is no JSON"):
        JointSpace.load(small)


def test_a_tensor_of_another_shape_is_refused(tmp_path: Path) -> None:
    arrays = build_arrays(KNOWLEDGE, bag_of_words)
    arrays["axes"] = arrays["axes"][:, :5]
    with pytest.raises(SpaceError, match="'axes' is float16"):
        write_space(tmp_path, arrays, {})


def _change(folder: Path, **fields: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_the_shipped_space_is_small_and_named() -> None:
    space = JointSpace.load()
    assert (space.id, space.version, space.dimension) == ("prior", "1", 256)
    assert (SHIPPED / "space.safetensors").stat().st_size < 6_000_000
