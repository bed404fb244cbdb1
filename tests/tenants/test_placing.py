"""One encoding serves every space that is made of the same encoders, also of several tenants at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from ml.alignment.features import ImageFeatures, TextFeatures
from tenants.retrieval.query import encoding


class Space:
    """Places a text by its length times a number of its own; notes what it was asked to encode."""

    def __init__(self, factor: float, text: str = "a", image: tuple[str, ...] = ("x", "y")) -> None:
        self.manifest = {"encoders": {"text": text, "image": list(image)}}
        self.factor, self.encoded = factor, []

    def read(self, texts: list[str]) -> TextFeatures:
        self.encoded.append(texts)
        return TextFeatures(
            np.array([[len(text)] for text in texts], np.float32), np.zeros((len(texts), 11), "f4")
        )

    def see(self, images: list[np.ndarray]) -> ImageFeatures:
        self.encoded.append(images)
        seen = np.array([[image.sum()] for image in images], np.float32)
        return ImageFeatures(seen, seen, np.zeros((len(images), 11), "f4"))

    def project_text(self, reading: TextFeatures) -> np.ndarray:
        return self.factor * reading.vectors

    def as_asset(self, texts: np.ndarray) -> np.ndarray:
        return texts

    def project_image(self, sight: ImageFeatures) -> np.ndarray:
        return self.factor * sight.probabilities


def values(costed: list[encoding.Costed]) -> list[dict[str, float]]:
    return [{model: float(vector[0]) for model, vector in placed.items()} for placed, _ in costed]


def test_spaces_of_the_same_encoders_share_what_was_encoded() -> None:
    first, second = Space(1), Space(10)
    found = encoding.place_texts(["a", "bb"], {"m:1": first, "m:2": second})
    assert values(found) == [{"m:1": 1, "m:2": 10}, {"m:1": 2, "m:2": 20}]
    assert first.encoded + second.encoded == [["a", "bb"]]


def test_others_encode_for_themselves() -> None:
    english, chinese = Space(1), Space(10, text="b")
    found = encoding.place_texts(["a"], {"m:1": english, "m:2": chinese})
    assert values(found) == [{"m:1": 1, "m:2": 10}]
    assert (english.encoded, chinese.encoded) == ([["a"]], [["a"]])
    # Whatever they read with: they see alike.
    pixels = np.full((1, 1, 3), 2, np.uint8)
    assert values([encoding.place_image(pixels, {"m:1": english, "m:2": chinese})]) == [{"m:1": 6, "m:2": 60}]
    assert len(english.encoded) + len(chinese.encoded) == 3


def test_a_batch_of_several_tenants_keeps_them_apart() -> None:
    shared, own, other = Space(1), Space(10), Space(100, text="b")
    items: list[Any] = [
        ("a", {"m:1": shared}),
        ("bb", {"m:1": shared, "own:1": own}),
        ("ccc", {"other:1": other}),
        ("dddd", {"own:1": own}),
    ]
    assert values(encoding._place_texts(items)) == [
        {"m:1": 1},
        {"m:1": 2, "own:1": 20},
        {"other:1": 300},
        {"own:1": 40},
    ]
    assert shared.encoded + own.encoded == [["a", "bb", "dddd"]]
    assert other.encoded == [["ccc"]]


def test_nothing_to_place() -> None:
    assert encoding.place_texts([], {"m:1": Space(1)}) == []
    assert encoding.place_texts(["a"], {})[0][0] == {}
