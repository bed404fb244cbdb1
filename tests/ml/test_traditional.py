"""The traditional methods on pairs that share a few hidden directions, and as a space on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ml.alignment import traditional
from ml.alignment.features import ImageFeatures, TextFeatures
from ml.alignment.space import JointSpace, SpaceError
from ml.alignment.storage import write_space


def related(pictures: int = 60, captions: int = 2) -> tuple[TextFeatures, ImageFeatures, np.ndarray]:
    """Texts [m, 40] and pictures [n, 300] that look at the same eight hidden numbers, with a little noise."""
    random = np.random.default_rng(0)
    hidden, owners = random.normal(size=(pictures, 8)), np.repeat(np.arange(pictures), captions)
    noise = [0.1 * random.normal(size=(rows, width)) for rows, width in ((len(owners), 40), (pictures, 300))]
    texts = hidden[owners] @ random.normal(size=(8, 40)) + noise[0]
    features = hidden @ random.normal(size=(8, 300)) + noise[1]
    colours = np.zeros((len(owners), 11), np.float32)
    sight = ImageFeatures(
        np.empty((pictures, 0), np.float32), features.astype(np.float32), colours[:pictures]
    )
    return TextFeatures(texts.astype(np.float32), colours), sight, owners


@pytest.mark.parametrize("method", traditional.METHODS)
def test_unseen_pairs_find_each_other(method: str) -> None:
    reading, sight, owners = related()
    fitted = traditional.fitted(method, reading.rows(slice(0, 80)), sight.rows(slice(0, 40)), owners[:80])
    texts, pictures = fitted.text(reading.rows(slice(80, 120))), fitted.image(sight.rows(slice(40, 60)))
    assert (texts @ pictures.T).argmax(axis=1).tolist() == (owners[80:] - 40).tolist()
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1.0, atol=1e-5)
    assert texts.shape == (40, 256)


@pytest.mark.parametrize("method", traditional.METHODS)
def test_two_pairs_suffice_for_a_map(method: str) -> None:
    reading, sight, owners = related(pictures=2, captions=1)
    fitted = traditional.fitted(method, reading, sight, owners)
    assert np.isfinite(fitted.image(sight)).all()


class Tower:
    """Answers with the rows that it was given."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def encode(self, batch: list[object]) -> np.ndarray:
        return self.rows[: len(batch)]


def saved(folder: Path, **changed: np.ndarray) -> Path:
    reading, sight, owners = related()
    arrays = traditional.fitted("regularised CCA", reading, sight, owners).arrays() | changed
    encoders = {"text": "hf:bert", "image": ["torchvision:resnet101"]}
    manifest = {"kind": "linear", "id": "bert-resnet", "version": "1", "dimension": 256, "encoders": encoders}
    write_space(folder, arrays, manifest)
    return folder


def test_any_towers_make_a_space(tmp_path: Path) -> None:
    reading, sight, _ = related()
    space = JointSpace.load(saved(tmp_path), Tower(reading.vectors[::2]), [Tower(sight.features)])
    texts = space.embed_texts(["a", "b", "c"])
    pictures = space.embed_images([np.zeros((4, 4, 3), np.uint8)] * 3)
    assert (texts @ pictures.T).argmax(axis=1).tolist() == [0, 1, 2]
    assert space.encoders_key == "hf:bert|torchvision:resnet101"
    np.testing.assert_array_equal(space.as_query(pictures), pictures)


def test_maps_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    saved(tmp_path, text_mean=np.zeros(7, np.float32))
    with pytest.raises(SpaceError, match="do not fit"):
        JointSpace.load(tmp_path)


def test_an_unknown_kind_and_a_stray_tensor_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="no kind 'magic'"):
        write_space(tmp_path, {}, {"kind": "magic"})
    with pytest.raises(SpaceError, match="'extra'"):
        saved(tmp_path, extra=np.zeros(1, np.float32))
