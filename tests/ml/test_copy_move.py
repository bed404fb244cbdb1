"""Copy-move: a copied region is found where it lies, and pictures that say nothing are not judged."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ml.detectors.base import Finding, Item, load_detector

cv2 = pytest.importorskip("cv2")
Pixels = NDArray[np.uint8]


def photo(seed: int, height: int = 420, width: int = 560) -> Pixels:
    """A made-up photo: rough terrain of many scales, in colour, with grain. No two places of it are alike."""
    rng = np.random.default_rng(seed)
    layers = np.zeros((height, width, 3), np.float32)
    for cell in (3, 6, 12, 24, 48, 96):
        rough = rng.normal(0, 1, (height // cell + 2, width // cell + 2, 3)).astype(np.float32)
        layers += cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC) * cell**0.4
    layers = 128 + 45 * layers / layers.std() + rng.normal(0, 4, layers.shape)
    return np.clip(layers, 0, 255).astype(np.uint8)


def copied(pixels: Pixels, turn: float = 0.0, scale: float = 1.0) -> Pixels:
    """The disc of radius 55 around (130, 130) again at (400, 280)."""
    height, width = pixels.shape[:2]
    disc = np.zeros((height, width), np.float32)
    cv2.circle(disc, (130, 130), 55, 1.0, -1)
    move = cv2.getRotationMatrix2D((130, 130), turn, scale)
    move[:, 2] += (270, 150)
    moved = cv2.warpAffine(pixels, move, (width, height), flags=cv2.INTER_CUBIC)
    soft = cv2.GaussianBlur(cv2.warpAffine(disc, move, (width, height)), (0, 0), 1.5)[..., None]
    return np.clip(moved * soft + pixels * (1 - soft), 0, 255).astype(np.uint8)


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def examine(pixels: Pixels, shrunk: float = 1.0) -> Finding:
    """``shrunk``: how much smaller the decoder made the picture."""
    height, width = (round(side * shrunk) for side in pixels.shape[:2])
    return load_detector("copy-move").examine(
        Item("image", "image/png", pixels=pixels, width=width, height=height)
    )


@pytest.mark.parametrize(
    ("turn", "scale", "quality"), [(0, 1.0, None), (35, 1.0, None), (0, 1.25, 75), (-20, 0.85, 85)]
)
def test_a_copied_region_is_found_where_it_lies(turn: float, scale: float, quality: int | None) -> None:
    pixels = copied(photo(1), turn, scale)
    finding = examine(pixels if quality is None else jpeg(pixels, quality))
    assert finding.above == "likely"
    assert finding.synthetic is not None
    assert finding.interval is not None
    assert finding.interval[0] <= finding.synthetic <= finding.interval[1]
    assert finding.synthetic > 0.9
    region = next(seen for seen in finding.evidence if seen["kind"] == "copied-region")
    centres = sorted((left + width / 2, top + height / 2) for left, top, width, height in region["boxes"])
    assert centres[0] == pytest.approx((130, 130), abs=15)
    assert centres[1] == pytest.approx((400, 280), abs=15)
    assert region["scaled"] == pytest.approx(scale, rel=0.1) or region["scaled"] == pytest.approx(
        1 / scale, rel=0.1
    )
    assert abs(region["turned_degrees"]) == pytest.approx(abs(turn), abs=4)


def test_the_mask_is_a_small_picture_with_colour_on_both_regions() -> None:
    finding = examine(copied(photo(1)))
    mask = Image.open(io.BytesIO(finding.pictures["copy-move"]))
    assert (mask.format, max(mask.size)) == ("PNG", 512)
    values = np.asarray(mask).astype(int)
    scale = 512 / 560
    for x, y in ((130, 130), (400, 280)):
        red, _, blue = values[round(y * scale), round(x * scale)]
        assert abs(red - blue) > 40
    red, _, blue = values[20, 490]
    assert red == blue


def test_boxes_are_in_pixels_of_the_original() -> None:
    region = next(s for s in examine(copied(photo(1)), 3.0).evidence if s["kind"] == "copied-region")
    left, top, width, height = min(region["boxes"])
    assert (left + width / 2, top + height / 2) == pytest.approx((390, 390), abs=45)


@pytest.mark.parametrize("seed", [2, 3])
def test_an_untouched_picture_is_not_judged_a_copy(seed: int) -> None:
    for pixels in (photo(seed), jpeg(photo(seed), 75)):
        finding = examine(pixels)
        assert (finding.state, finding.above) == ("examined", "none")
        assert finding.synthetic is not None
        assert finding.synthetic < 0.3
        assert not finding.pictures


def test_alike_is_not_the_same() -> None:
    """The same object twice, each with its own grain and light, as on a shelf."""
    rng = np.random.default_rng(0)
    pixels = photo(4).astype(np.float32)
    thing = photo(5)[:120, :120].astype(np.float32)
    for left, light in ((60, 1.0), (380, 0.85)):
        grain = cv2.GaussianBlur(rng.normal(0, 40, thing.shape).astype(np.float32), (0, 0), 1.2)
        pixels[150:270, left : left + 120] = thing * light + grain
    assert examine(np.clip(pixels, 0, 255).astype(np.uint8)).above != "likely"


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((600, 800, 3), 200, np.uint8),
        np.zeros((300, 300, 3), np.uint8),
        np.random.default_rng(0).integers(0, 256, (100, 900, 3), np.uint8),
        np.repeat(np.linspace(0, 255, 640).astype(np.uint8)[None, :, None], 400, 0).repeat(3, 2),
    ],
    ids=["white", "black", "strip", "gradient"],
)
def test_small_and_flat_pictures_are_not_judged(pixels: Pixels) -> None:
    finding = examine(pixels)
    assert finding.state == "abstained"
    assert finding.reason
    assert finding.synthetic is None


@pytest.mark.parametrize("kind", ["stripes", "chequers", "noise"])
def test_hard_pictures_end(kind: str) -> None:
    y, x = np.mgrid[0:500, 0:700]
    values = {
        "stripes": x // 7 % 2,
        "chequers": (x // 9 + y // 9) % 2,
        "noise": np.random.default_rng(0).random((500, 700)),
    }
    pixels = np.repeat((values[kind] * 255).astype(np.uint8)[..., None], 3, 2)
    assert examine(pixels).state in ("examined", "abstained")


def test_no_pixels() -> None:
    assert (
        load_detector("copy-move").examine(Item("image", "image/png", path=Path("/none"))).state == "failed"
    )


def test_it_takes_no_argument() -> None:
    with pytest.raises(ValueError, match="no argument"):
        load_detector("copy-move:fast")
