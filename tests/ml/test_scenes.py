"""Scenes: what a prompt names, where things stand, and the library that they may be taken from."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from ml.scenes import composing
from ml.scenes.library import FOLDER, SETS, design, library
from ml.scenes.words import COLOURS, MOST, Reading, read


def shown(prompt: str, negative: str = "") -> list[tuple[str, str, int, str, int]]:
    things = read(prompt, negative).things
    return [(one.thing.label, one.colour, one.count, one.relation, one.other) for one in things]


@pytest.mark.parametrize(
    ("prompt", "things", "where"),
    [
        ("a red apple on a table", [("red apple", "", 1, "", -1)], ("table", "")),
        ("桌子上有一个红苹果", [("red apple", "", 1, "", -1)], ("table", "")),
        (
            "一只戴着帽子的猫在海边散步",
            [("top hat", "", 1, "worn", 1), ("cat", "", 1, "", -1)],
            ("sea", ""),
        ),
        (
            "a cat with a hat walks by the sea",
            [("cat", "", 1, "", -1), ("top hat", "", 1, "worn", 0)],
            ("sea", ""),
        ),
        ("两只猫和一条狗", [("cat", "", 2, "", -1), ("dog", "", 1, "", -1)], ("", "")),
        ("一只狗在树下", [("dog", "", 1, "under", 1), ("deciduous tree", "", 1, "", -1)], ("", "")),
        ("树下有一只兔子", [("deciduous tree", "", 1, "", -1), ("rabbit", "", 1, "under", 0)], ("", "")),
        ("一个骑着自行车的女孩", [("bicycle", "", 1, "", -1), ("girl", "", 1, "on", 0)], ("", "")),
        (
            "three blue cars in front of a house at night",
            [("automobile", "blue", 3, "before", 1), ("house", "", 1, "", -1)],
            ("", "night"),
        ),
        (
            "an orange cat next to an orange",
            [("cat", "orange", 1, "", -1), ("tangerine", "", 1, "", -1)],
            ("", ""),
        ),
        ("a rocket above a castle", [("rocket", "", 1, "above", 1), ("castle", "", 1, "", -1)], ("", "")),
        (
            "butterflies and knives",
            [("butterfly", "", 1, "", -1), ("kitchen knife", "", 1, "", -1)],
            ("", ""),
        ),
        ("birds fly over the mountains", [("bird", "", 1, "", -1)], ("mountains", "")),
        ("a mountain", [("mountain", "", 1, "", -1)], ("", "")),
        ("a space rocket", [("rocket", "", 1, "", -1)], ("", "")),
        ("a table lamp in space", [("red paper lantern", "", 1, "", -1)], ("space", "")),
        ("a snowman in the snow", [("snowman", "", 1, "", -1)], ("snow", "")),
    ],
)
def test_what_a_prompt_names(prompt: str, things: list[object], where: tuple[str, str]) -> None:
    assert shown(prompt) == things
    assert (read(prompt).setting, read(prompt).hour) == where


@pytest.mark.parametrize(
    "prompt",
    [
        "happiness",
        "the meaning of life",
        "幸福的意义",
        "x",
        "",
        " \x00\ud800",
        "🍎",
        "'; DROP SCHEMA public; --",
        "fly",
    ],
)
def test_what_names_nothing_is_not_known(prompt: str) -> None:
    assert read(prompt) == Reading() and not read(prompt).is_known


def test_a_place_alone_is_known_and_no_scene() -> None:
    assert read("by the sea at night").is_known and not read("by the sea at night").is_scene
    assert not read("a cat").is_scene and read("two cats").is_scene and read("a cat in the snow").is_scene


def test_none_twice_none_unwanted_and_not_too_many() -> None:
    assert shown("a cat, a cat and a red cat") == [("cat", "", 1, "", -1), ("cat", "red", 1, "", -1)]
    assert shown("a cat on a bed", "cats") == [("bed", "", 1, "", -1)]
    many = "apple banana pear lemon grapes cherries peach mango"
    assert len(read(many).things) == MOST == 5
    assert [one.count for one in read("99 cats and 9 dogs").things] == [1, 4]


def test_any_words_are_read_in_time() -> None:
    for prompt in ("red " * 499, "a cat on " * 220, "猫" * 2000, "一只戴着" * 500, "a" * 2000, "cat-" * 500):
        assert len(read(prompt, prompt).things) <= MOST


def test_the_library_is_whole_and_names_its_sources() -> None:
    about = json.loads((FOLDER / "things.json").read_text("utf-8"))
    content = (FOLDER / "designs.bin").read_bytes()
    assert (
        about["sha256"] == hashlib.sha256(content).hexdigest() and about["bytes"] == len(content) < 6 * 2**20
    )
    assert {one.source for one in library().things} == set(SETS) and about["sets"] == SETS
    assert all(row["licence"] in ("MIT", "CC BY 4.0") and row["author"] for row in SETS.values())
    assert len(library().things) > 1_000
    for number in range(0, len(library().things), 97):
        pixels = design(number)
        assert max(pixels.shape[:2]) == 192 and pixels[..., 3].max() == 255
    for language, names in library().words.items():
        assert len(names) > 1_000 and all(0 <= at < len(library().things) for at in names.values()), language


@pytest.mark.parametrize(
    "prompt",
    [
        "a cat with a hat walks by the sea",
        "three dogs under a tree, the sun above",
        "a fox, an owl, a car and two apples on a table",
        "a frog in a cup on a book",
        "a fish under water",
        "雪地里的一只企鹅和一个雪人",
    ],
)
@pytest.mark.parametrize("size", [(256, 256), (512, 320), (264, 640)])
def test_everything_stands_in_the_picture(prompt: str, size: tuple[int, int]) -> None:
    reading = read(prompt)
    sprites = [design(one.thing.number) for one in reading.things]
    forms = [one.shape[0] / one.shape[1] for one in sprites]
    boxes = composing.laid_out(reading, forms, *size, seed=3)
    assert sorted({box.thing for box in boxes}) == list(range(len(reading.things)))
    assert len(boxes) == sum(one.count for one in reading.things)
    for box in boxes:
        assert box.left > -0.06 * size[0] and box.left + box.width < 1.06 * size[0]
        assert box.top > -0.06 * size[1] and box.top + box.height < 1.06 * size[1]
        assert box.height / box.width == pytest.approx(forms[box.thing])
    picture = composing.composed(reading, sprites, *size, seed=3)
    assert picture.shape == (size[1], size[0], 3) and picture.dtype == np.uint8
    assert np.array_equal(picture, composing.composed(reading, sprites, *size, seed=3))


def test_relations_are_seen() -> None:
    def boxes(prompt: str) -> list[composing.Box]:
        reading = read(prompt)
        forms = [1.0] * len(reading.things)
        found = {box.thing: box for box in composing.laid_out(reading, forms, 512, 512, seed=0)}
        return [found[at] for at in range(len(forms))]

    cat, bed = boxes("a cat on a bed")
    assert cat.top + cat.height < bed.top + 0.3 * bed.height and cat.depth > bed.depth
    cat, umbrella = boxes("a cat under an umbrella")
    assert umbrella.top < cat.top
    car, house = boxes("a car in front of a house")
    assert car.depth > house.depth and car.left + car.width > house.left
    rocket, castle = boxes("a rocket above a castle")
    assert rocket.top + rocket.height <= castle.top
    cat, hat = boxes("a cat wearing a hat")
    assert hat.top < cat.top < hat.top + hat.height and hat.depth > cat.depth


def test_drawings_are_cut_out_of_their_white() -> None:
    drawing = np.full((64, 64, 3), 255, np.uint8)
    drawing[16:48, 20:44] = (200, 30, 30)
    drawing[28:36, 28:36] = 255
    drawing[2, 2] = 0
    cut = composing.cut_out(drawing)
    assert cut is not None and 28 <= cut.shape[0] <= 34 and 20 <= cut.shape[1] <= 26
    # White inside it is a part of it.
    assert cut[cut.shape[0] // 2, cut.shape[1] // 2, 3] == 255
    assert composing.cut_out(np.full((64, 64, 3), 255, np.uint8)) is None


def test_a_colour_word_paints_what_is_taken() -> None:
    apple = design(library().words["en"]["apple"])
    for colour, strongest in (("blue", 2), ("green", 1), ("red", 0)):
        seen = composing.painted(apple, colour)[apple[..., 3] > 200][:, :3].astype(float).mean(axis=0)
        assert seen.argmax() == strongest, colour
    for colour in COLOURS:
        assert np.array_equal(composing.painted(apple, colour)[..., 3], apple[..., 3])
