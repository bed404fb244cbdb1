"""How `open-1` is made, at toy size: the grammar, the pictures of writing, the fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ml.alignment.features import ImageFeatures, TextFeatures
from ml.alignment.numerics import unit
from ml.alignment.space import JointSpace, SpaceError
from ml.alignment.storage import read_space, write_space
from research.open_space import build
from research.open_space.captions import captions, phrases, vocabulary
from research.open_space.rendering import FONTS, SIDE, render

READ, SEEN = 24, 32


class TestCaptions:
    def test_they_are_the_same_each_time_and_none_comes_twice(self) -> None:
        first = captions(400)
        assert first == captions(400)
        assert len({caption.lower().rstrip(" .") for caption in first}) == 400

    def test_they_read_like_captions(self) -> None:
        for caption in captions(400):
            assert "  " not in caption
            assert 1 <= len(caption.split()) <= 24

    def test_every_section_is_used(self) -> None:
        said = " ".join(captions(3_000)).lower()
        for name, parts in vocabulary().items():
            assert any(part.lower().split()[-1] in said for part in parts), name

    def test_phrases_name_things_only(self) -> None:
        assert "a red apple" in phrases()
        assert not {"a jar of", "striped", "for men"} & set(phrases())


@pytest.mark.skipif(not all(font.exists() for font in FONTS), reason="fonts-dejavu-core, fonts-liberation")
class TestRendering:
    @pytest.mark.parametrize("text", ["a", "a dog runs", "word " * 400, "x" * 300, "مرحبا 你好 🙂"])
    def test_any_text_becomes_a_picture_of_writing(self, text: str) -> None:
        for typeface in (0, 1):
            picture = render(text, typeface)
            assert picture.shape == (SIDE, SIDE, 3)
            assert picture.dtype == np.uint8
            assert picture.min() < 80
            assert picture.max() == 255

    def test_short_texts_are_large(self) -> None:
        # Of one letter as high as the type: the height of its ink.
        heights = [(render(text) < 128).any(axis=(1, 2)).sum() for text in ("A", "A " * 120)]
        assert heights[0] > 30
        assert heights[1] > 90


@pytest.fixture(scope="module")
def world() -> tuple[build.Sentences, build.Sentences, np.ndarray, np.ndarray]:
    """Texts, and what a tower says of their pictures, from the same hidden thing; photographs lie elsewhere."""
    chance = np.random.default_rng(0)
    reads, shows = chance.normal(size=(12, READ)), chance.normal(size=(12, SEEN))
    writing = 3 * chance.normal(size=SEEN)

    def sentences(count: int) -> build.Sentences:
        hidden = chance.normal(size=(count, 12))
        return build.Sentences(
            unit(hidden @ reads).astype(np.float32), (hidden @ shows + writing).astype(np.float32)
        )

    hidden = chance.normal(size=(60, 12))
    photos = np.concatenate([hidden @ shows, hidden @ shows], axis=1).astype(np.float32)
    return sentences(300), sentences(80), photos, unit(hidden @ reads).astype(np.float32)


@pytest.fixture(scope="module")
def space(world: tuple[build.Sentences, build.Sentences, np.ndarray, np.ndarray]) -> build.TowerSpace:
    said, bare, photos, texts = world
    return build.build(said, bare, photos, texts, build.Widths(shown=10, beyond=6, finer=4))


def pictures(features: np.ndarray) -> ImageFeatures:
    return ImageFeatures(
        np.empty((len(features), 0), np.float32), features, np.zeros((len(features), 11), np.float32)
    )


def texts(vectors: np.ndarray) -> TextFeatures:
    return TextFeatures(vectors, np.zeros((len(vectors), 11), np.float32))


class TestSpace:
    def test_texts_find_photographs_that_were_never_paired(self, space, world) -> None:
        _, _, photos, vectors = world
        scores = space.text(texts(vectors)) @ space.image(pictures(photos)).T
        assert (scores.argmax(axis=1) == np.arange(len(photos))).mean() > 0.6

    def test_rows_have_norm_1_and_the_width_that_it_states(self, space, world) -> None:
        _, _, photos, vectors = world
        for rows in (space.text(texts(vectors)), space.image(pictures(photos))):
            assert rows.shape == (60, space.dimension) == (60, 10 + 11 + 1 + 6 + 4)
            assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        assert space.text(texts(vectors[:0])).shape == space.image(pictures(photos[:0])).shape == (0, 32)

    def test_pictures_of_writing_do_not_attract_every_text(self, space, world) -> None:
        said, _, photos, vectors = world
        scans = np.concatenate([said.pictures[:60]] * 2, axis=1)
        both = space.image(pictures(np.concatenate([photos, scans])))
        first = (space.text(texts(vectors)) @ both.T).argmax(axis=1)
        assert (first >= len(photos)).mean() < 0.1

    def test_a_picture_asks_without_its_bias(self, space, world) -> None:
        rows = space.image(pictures(world[2]))
        asked = space.as_query(rows)
        assert (rows[:, 21] != 0).all()
        assert (asked[:, 21] == 0).all()
        assert np.allclose(np.linalg.norm(asked, axis=1), 1, atol=1e-5)

    def test_both_views_count(self, space, world) -> None:
        photos = world[2]
        middle, whole = np.split(photos, 2, axis=1)
        other = np.concatenate([middle, np.roll(whole, 1, axis=0)], axis=1)
        assert not np.allclose(space.seen(photos), space.seen(other), atol=1e-2)
        assert np.allclose(space.seen(photos), space.seen(np.concatenate([whole, middle], axis=1)), atol=1e-5)

    def test_it_is_kept_and_read_back(self, space, world, tmp_path: Path) -> None:
        encoders = {"text": "bundled:minilm", "text_version": "1", "image": ["bundled:clip-vit-b16"]}
        write_space(tmp_path, space.arrays(), build.manifest(space, encoders, {"captions": 300}))
        placing, manifest = read_space(tmp_path)
        assert manifest["dimension"] == JointSpace.load(tmp_path).dimension == 32
        assert np.allclose(placing.text(texts(world[3])), space.text(texts(world[3])), atol=1e-6)

    @pytest.mark.parametrize(
        ("name", "change", "complaint"),
        [
            ("axes", lambda rows: rows[:, :-1], "'hub_bank'|'text_from_shown'"),
            ("landmarks", lambda rows: rows[:, :-1], "'landmarks'"),
            ("coefficients", lambda rows: rows[:-1], "'coefficients'"),
            ("hub_bank", lambda rows: rows[:0], "'hub_bank'"),
            ("sight_axes", lambda rows: rows[:, :-1], "make 31 dimensions, not 32"),
        ],
    )
    def test_parts_that_do_not_fit_are_refused(self, space, tmp_path: Path, name, change, complaint) -> None:
        arrays = space.arrays()
        arrays[name] = change(arrays[name])
        encoders = {"text": "bundled:minilm", "image": ["bundled:clip-vit-b16"]}
        write_space(tmp_path, arrays, build.manifest(space, encoders, {}))
        with pytest.raises(SpaceError, match=complaint):
            read_space(tmp_path)
