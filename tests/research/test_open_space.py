"""How `open-1` is made, at toy size: the grammar, the pictures of writing, the fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ml.alignment.features import ImageFeatures, TextFeatures
from ml.alignment.numerics import unit
from ml.alignment.space import JointSpace, SpaceError
from ml.alignment.storage import read_space, write_space
from research.open_space import build
from research.open_space.captions import CHINESE as VOCABULARY_ZH
from research.open_space.captions import (
    TRANSLATIONS,
    Said,
    _with_adjective,
    captions,
    phrases,
    translations,
    vocabulary,
)
from research.open_space.rendering import FONTS, SIDE, render

#: Numbers that the encoder for English gives, that for many languages, and the tower.
FIRST, SECOND, SEEN = 24, 24, 32
READ = FIRST + SECOND


class TestCaptions:
    def test_they_are_the_same_each_time_and_none_comes_twice(self) -> None:
        first = captions(400)
        assert first == captions(400)
        assert len({caption.english.lower().rstrip(" .") for caption in first}) == 400

    def test_they_read_like_captions(self) -> None:
        for english, chinese in captions(400):
            assert "  " not in english
            assert 1 <= len(english.split()) <= 24
            assert 2 <= len(chinese) <= 60
            assert not set(chinese) & set("/{} ")

    @pytest.mark.parametrize(
        ("word", "words"), [("dog", "狗"), ("snow", "雪"), ("red", "红"), ("kitchen", "厨房")]
    )
    def test_both_languages_say_the_same(self, word: str, words: str) -> None:
        found = [said for said in captions(3_000) if f" {word} " in f" {said.english} "]
        assert len(found) > 10
        assert [said for said in found if words not in said.chinese] == []

    def test_adjectives_follow_the_measure_word(self) -> None:
        dress = next(part for part in vocabulary()["garments"] if part.english == "a dress")
        red = next(part for part in vocabulary()["colours"] if part.english == "red")
        assert _with_adjective(dress, red) == Said("a red dress", "一条/红色的连衣裙")

    def test_vocabularies_that_do_not_fit_are_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        short = tmp_path / "vocabulary_zh.txt"
        short.write_text(VOCABULARY_ZH.read_text("utf-8").replace("一只/吉娃娃 | ", ""), "utf-8")
        monkeypatch.setattr("research.open_space.captions.CHINESE", short)
        vocabulary.cache_clear()
        with pytest.raises(ValueError, match="do not have the same parts"):
            vocabulary()
        vocabulary.cache_clear()

    def test_two_hundred_are_written_in_ten_more_languages(self) -> None:
        found, known = translations(), {said.english for said in captions()[:4_000]}
        assert set(found) == {"ar", "de", "es", "fr", "hi", "it", "ja", "ko", "pt", "ru"}
        for code, said in found.items():
            assert len(said) == 200
            assert said.keys() <= known
            assert len(set(said.values())) > 195, code

    @pytest.mark.parametrize(
        ("lines", "complaint"),
        [
            (["en\tde", "a dog\tein Hund", "a cat"], "line 3"),
            (["en\tde", "a dog\t "], "line 2"),
            (["en\tde", "a dog\tein Hund\tun chien"], "line 2"),
            (["en\tde", "a dog\tein Hund", "a dog\tder Hund"], "twice"),
        ],
    )
    def test_translations_that_lack_a_cell_are_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str], complaint: str
    ) -> None:
        (tmp_path / TRANSLATIONS.name).write_text("\n".join(lines), "utf-8")
        monkeypatch.setattr("research.open_space.captions.TRANSLATIONS", tmp_path / TRANSLATIONS.name)
        with pytest.raises(ValueError, match=complaint):
            translations()

    def test_every_section_is_used(self) -> None:
        said = " ".join(caption.english for caption in captions(3_000)).lower()
        for name, parts in vocabulary().items():
            assert any(part.english.lower().split()[-1] in said for part in parts), name

    def test_phrases_name_things_only(self) -> None:
        assert Said("a red apple", "一个红苹果") in phrases()
        assert not {"a jar of", "striped", "for men"} & {phrase.english for phrase in phrases()}


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


class World:
    """Texts in four languages, and what a tower says of their pictures, from the same hidden thing; photographs lie
    elsewhere. The second half of a text says the language before all else, the first is noise but for two of them."""

    def __init__(self) -> None:
        self.chance = np.random.default_rng(0)
        self.first, self.second = (self.chance.normal(size=(12, width)) for width in (FIRST, SECOND))
        self.languages = dict(
            zip(("en", "zh", "xx", "yy"), 8 * self.chance.normal(size=(4, SECOND)), strict=True)
        )
        self.shows, self.writing = self.chance.normal(size=(12, SEEN)), 3 * self.chance.normal(size=SEEN)
        self.said = self._sentences(self.hidden(300), {"zh": 300, "yy": 40})
        self.bare = self._sentences(self.hidden(80), {"zh": 50})
        hidden = self.hidden(60)
        self.photos = (hidden @ self.shows).astype(np.float32)
        self.asked = {language: self.texts(hidden, language) for language in self.languages}
        self.names = self._sentences(self.hidden(40), {"zh": 40, "xx": 40})

    def hidden(self, count: int) -> np.ndarray:
        return self.chance.normal(size=(count, 12))

    def texts(self, hidden: np.ndarray, language: str) -> np.ndarray:
        meant = hidden if language in ("en", "zh") else self.hidden(len(hidden))
        second = unit(hidden @ self.second + self.languages[language])
        return np.concatenate([unit(meant @ self.first), second], axis=1).astype(np.float32)

    def _sentences(self, hidden: np.ndarray, counts: dict[str, int]) -> build.Sentences:
        shown = (hidden @ self.shows + self.writing).astype(np.float32)
        places = {code: self.chance.permutation(len(hidden))[:count] for code, count in counts.items()}
        others = {
            code: build.Translated(where, self.texts(hidden[where], code)) for code, where in places.items()
        }
        return build.Sentences(self.texts(hidden, "en"), shown, others)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def space(world: World) -> build.TowerSpace:
    widths = build.Widths(shown=10, beyond=6, finer=4)
    return build.build(world.said, world.bare, world.photos, world.asked["en"], FIRST, world.names, widths)


def pictures(features: np.ndarray) -> ImageFeatures:
    return ImageFeatures(
        np.empty((len(features), 0), np.float32), features, np.zeros((len(features), 11), np.float32)
    )


def texts(vectors: np.ndarray) -> TextFeatures:
    return TextFeatures(vectors, np.zeros((len(vectors), 11), np.float32))


class TestSpace:
    @pytest.mark.parametrize(("language", "least"), [("en", 0.6), ("zh", 0.6), ("yy", 0.5), ("xx", 0.4)])
    def test_texts_find_photographs_that_were_never_paired(self, space, world, language, least) -> None:
        """Of "yy" there are a few captions, of "xx" the names of things alone."""
        scores = space.text(texts(world.asked[language])) @ space.image(pictures(world.photos)).T
        assert (scores.argmax(axis=1) == np.arange(len(world.photos))).mean() > least

    def test_languages_are_told_by_the_second_half(self, space, world) -> None:
        for place, language in enumerate(("en", "zh", "xx", "yy")):
            assert (space.texts.detector(world.asked[language][:, FIRST:]) == place).all()
        assert build.languages(world.said, world.names) == ["en", "zh", "xx", "yy"]
        assert build.languages(world.bare) == ["en", "zh"]

    def test_a_text_between_two_languages_is_english(self) -> None:
        chance = np.random.default_rng(0)
        english, other = (chance.normal(scale=0.3, size=(200, 8)) + place * np.eye(8)[0] for place in (-1, 1))
        detector = build._detector([(0, english), (1, other)])
        assert detector(np.array([-1.0, 0.0, 1.0])[:, None] * np.eye(8)[:1]).tolist() == [0, 0, 1]

    def test_captions_tell_more_of_a_language_than_names(self, world) -> None:
        """The mean of "yy" is that of its captions, though names of things say another."""
        elsewhere = replace(world.names.others["xx"], texts=world.texts(world.hidden(40), "zh"))
        names = replace(world.names, others={**world.names.others, "yy": elsewhere})
        texts = build._centred(world.said, world.bare, FIRST, names)
        mean = unit(world.asked["yy"][:, FIRST:]).mean(axis=0)
        away = np.linalg.norm(texts.language_means - mean, axis=1)
        assert away.argmin() == build.languages(world.said, names).index("yy")

    def test_the_first_half_counts_in_english_and_chinese_alone(self, space, world) -> None:
        for language, vectors in world.asked.items():
            other = np.concatenate([np.roll(vectors[:, :FIRST], 1, axis=0), vectors[:, FIRST:]], axis=1)
            same = np.allclose(space.text(texts(vectors)), space.text(texts(other)), atol=1e-5)
            assert same == (language not in ("en", "zh"))

    def test_a_first_half_of_zeros_says_nothing(self, space, world) -> None:
        vectors = world.asked["zh"].copy()
        vectors[:, :FIRST] = 0
        meanings = space.texts.meanings(vectors)
        assert not meanings[:, :FIRST].any()
        assert np.allclose(space.texts.shown(meanings), space.texts.second(meanings[:, FIRST:]))

    def test_rows_have_norm_1_and_the_width_that_it_states(self, space, world) -> None:
        vectors, photos = world.asked["en"], world.photos
        for rows in (space.text(texts(vectors)), space.image(pictures(photos))):
            assert rows.shape == (60, space.dimension) == (60, 10 + 11 + 1 + 6 + 4)
            assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        assert space.text(texts(vectors[:0])).shape == space.image(pictures(photos[:0])).shape == (0, 32)

    def test_pictures_of_writing_do_not_attract_every_text(self, space, world) -> None:
        photos, vectors = world.photos, world.asked["en"]
        scans = world.said.pictures[:60]
        both = space.image(pictures(np.concatenate([photos, scans])))
        first = (space.text(texts(vectors)) @ both.T).argmax(axis=1)
        assert (first >= len(photos)).mean() < 0.1

    def test_a_picture_asks_without_its_bias(self, space, world) -> None:
        rows = space.image(pictures(world.photos))
        asked = space.as_query(rows)
        assert (rows[:, 21] != 0).all()
        assert (asked[:, 21] == 0).all()
        assert np.allclose(np.linalg.norm(asked, axis=1), 1, atol=1e-5)

    def test_it_is_kept_and_read_back(self, space, world, tmp_path: Path) -> None:
        encoders = {"text": "bundled:minilm", "text_version": "1", "image": ["bundled:clip-vit-b16"]}
        write_space(tmp_path, space.arrays(), build.manifest(space, encoders, {"captions": 300}))
        placing, manifest = read_space(tmp_path)
        assert manifest["dimension"] == JointSpace.load(tmp_path).dimension == 32
        assert np.allclose(
            placing.text(texts(world.asked["zh"])), space.text(texts(world.asked["zh"])), atol=1e-6
        )

    @pytest.mark.parametrize(
        ("name", "change", "complaint"),
        [
            ("axes", lambda rows: rows[:, :-1], "'hub_bank'|'text_from_shown'"),
            ("both_landmarks", lambda rows: rows[:, :-1], "'both_landmarks'"),
            ("second_landmarks", lambda rows: rows[:, :-1], "'second_landmarks'"),
            ("second_coefficients", lambda rows: rows[:-1], "'second_coefficients'"),
            ("detector_axes", lambda rows: rows[:, :-1], "'detector_axes'"),
            ("detector_languages", lambda rows: rows + 2, "a language without a mean"),
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
