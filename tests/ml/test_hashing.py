"""Fingerprints: PDQ bit for bit as the reference has it; what outlives which change, and what never matches."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from ml.compression.prepare import CALIBRATION
from ml.detectors.base import Item, VideoFrame, load_detector
from ml.hashing import fingerprints, image_codes, pdq, points, sounds
from ml.hashing.fingerprints import Fingerprints
from ml.hashing.pdq import HammingIndex, enough_frames_match
from ml.hashing.sounds import COMMON, SoundIndex
from tests.ml.drawings import drawing

# By pdqhash 0.2.8, which is built from the reference's own sources: hash and quality of `drawing(seed, height, width)`.
REFERENCE = {
    (0, 480, 640): ("a0b410a6f57257625d42fd14ee1ce21b421ab594d73cf5a25f72ea55a84fc22d", 100),
    (1, 1024, 1024): ("1af1f826f54d8ff4f09f7f16a2bb85f6d40f2ab225d9150a2a91c0612ee4e01e", 100),
    (2, 64, 64): ("217669a278e615b1e739c746165adaabf6c7cb1ae3c61173f0a102ec83b9760a", 100),
    (3, 37, 801): ("ad5ae6ea425102f5abefdd50f34aa8475805521976ad2dab057a12ed48c5fd58", 100),
    (4, 333, 5): ("64d96c5bce73b1ac9b26c3f0c6f13e0f9b26cb62348d318c9e27390e21c8c673", 100),
    (5, 768, 1024): ("fe96553a6a86fb50bd40ea409569ab42b58d79fa62be40a75c7686a78809b758", 100),
    (6, 129, 127): ("15cbb3324e2cb8ddb1334f2ca45754d34539a5b43b2be8eaaad51f2d71247450", 100),
}
# All eight of `drawing(0, 480, 640)`, in the order of `pdq.TURNS`.
TURNED = [
    "a0b410a6f57257625d42fd14ee1ce21b421ab594d73cf5a25f72ea55a84fc22d",
    "e777c042a75683874e0ec38713adc387c850c7f1f839781303a33998799afef8",
    "f5e13a0ca027fdc8083757bebb4948b1174f1f3e82695f080a2740fffd1a6887",
    "b2226ae8f203292d1b5b6b2d46f8692d95056d5ba56cf2b956f693322ccf5452",
    "a0b46759f572a89d5d4202ebee1c1de4421a4a6bd73c0a5d5f7215aaa84f3dd2",
    "f5e1cdf3a037023708b7a841bf49b74e174fe0c18269a0f70a27bf00fd1a9778",
    "a7773fbda7567c780e0e3e7813ad3c78c050380ef039a7ec03a3c667799a0107",
    "b2229517f203d6d25b5b94d246f896d2950592a4ad6c0d4656f66ccd2ccfabad",
]

Picture = Image.Image


@pytest.mark.parametrize("size", REFERENCE, ids=str)
def test_pdq_is_the_reference_bit_for_bit(size: tuple[int, int, int]) -> None:
    found = pdq.pdq(drawing(*size))
    assert (found.hex, found.quality) == REFERENCE[size]


def test_the_eight_turned_hashes_are_the_references() -> None:
    hashes, quality = pdq.dihedral(drawing(0, 480, 640))
    assert [one.hex() for one in hashes] == TURNED
    assert quality == 100


def test_turned_hashes_are_those_of_turned_pictures() -> None:
    """The reference's words for turns: which of numpy's they are, within what rounding and sampling change."""
    pixels = drawing(7, 512, 512)
    turned = {
        "rotated 90": np.rot90(pixels, 1),
        "rotated 180": np.rot90(pixels, 2),
        "rotated 270": np.rot90(pixels, 3),
        "flipped x": pixels[::-1],
        "flipped y": pixels[:, ::-1],
        "flipped plus": pixels.transpose(1, 0, 2),
    }
    hashes = dict(zip(pdq.TURNS, pdq.dihedral(pixels)[0], strict=True))
    for name, other in turned.items():
        near = HammingIndex(np.frombuffer(hashes[name], np.uint8)[None])
        assert near.differing(pdq.pdq(np.ascontiguousarray(other)).content)[0] <= 30, name


@pytest.mark.parametrize("shape", [(4, 100), (100, 4), (1, 1)])
def test_what_is_too_small_has_no_hash(shape: tuple[int, int]) -> None:
    pixels = np.zeros((*shape, 3), np.uint8)
    assert pdq.pdq(pixels) == pdq.Pdq(bytes(32), 0)
    assert pdq.dihedral(pixels) == ([bytes(32)] * 8, 0)


def test_a_flat_picture_has_no_quality() -> None:
    assert pdq.pdq(np.full((300, 400, 3), 77, np.uint8)).quality == 0


def test_distances_are_counted_and_bounded() -> None:
    random = np.random.default_rng(3)
    rows = random.integers(0, 256, (500, 32), dtype=np.uint8)
    wanted = rows[7].copy()
    wanted[[0, 31]] ^= 0b101
    kept = HammingIndex(rows)
    naive = np.unpackbits(rows ^ wanted, axis=1).sum(axis=1)
    assert kept.differing(wanted.tobytes()).tolist() == naive.tolist()
    found, distances = kept.within(wanted.tobytes(), 4)
    assert (found.tolist(), distances.tolist()) == ([7], [4])
    assert len(kept.within(wanted.tobytes(), 3)[0]) == 0
    assert len(HammingIndex(rows[:0]).within(wanted.tobytes(), 256)[0]) == 0


# --- Points ----------------------------------------------------------------------------------------------


def picture(seed: int) -> Picture:
    return Image.fromarray(drawing(seed, 360, 480)).resize((400, 300))


def points_of(image: Picture) -> points.Keypoints:
    return points.Keypoints(points.extract_keypoints(np.asarray(image.convert("RGB"))))


def jpeg(image: Picture, quality: int) -> Picture:
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=quality)
    return Image.open(sink)


def captioned(image: Picture) -> Picture:
    taller = Image.new("RGB", (image.width, image.height + 50), "white")
    taller.paste(image, (0, 50))
    ImageDraw.Draw(taller).text((10, 10), "WHEN YOU SEE IT", "black", font_size=24)
    return taller


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "the same": lambda one: one,
    "a fifth cut off": lambda one: one.crop((80, 30, 400, 270)),
    "turned by five degrees": lambda one: one.rotate(5, Image.Resampling.BICUBIC, expand=True),
    "mirrored": ImageOps.mirror,
    "captioned": captioned,
    "saved badly": lambda one: jpeg(one, 30),
    "all of it": lambda one: jpeg(captioned(ImageOps.mirror(one.crop((40, 30, 400, 290)))), 60),
}


@pytest.mark.parametrize("change", CHANGES)
def test_points_tell_a_copy(change: str) -> None:
    for seed in (1, 2, 3):
        original = picture(seed)
        assert points.match_keypoints(points_of(CHANGES[change](original)), points_of(original)).copy


def test_points_tell_what_is_no_copy() -> None:
    kept = [points_of(picture(seed)) for seed in range(8)]
    found = [points.match_keypoints(one, other) for one in kept for other in kept if one is not other]
    assert max(one.agreeing for one in found) < points.AGREEING
    assert not any(one.copy for one in found)


def test_a_small_part_of_a_picture_in_another_is_no_copy() -> None:
    for first, second in ((1, 2), (3, 4), (5, 6)):
        collage = picture(second)
        collage.paste(picture(first).crop((0, 0, 80, 300)), (0, 0))
        assert not points.match_keypoints(points_of(collage), points_of(picture(first))).copy


def test_a_picture_without_corners_has_no_points() -> None:
    flat = np.full((200, 300, 3), 128, np.uint8)
    assert points.extract_keypoints(flat) == b""
    empty = points.Keypoints(b"")
    assert points.match_keypoints(empty, empty) == points.KeypointMatch(0, 0)
    assert not points.match_keypoints(empty, points_of(picture(1))).copy


def test_points_are_bounded_and_checked() -> None:
    assert 0 < len(points.extract_keypoints(drawing(5, 700, 1000))) <= points.MOST * points.POINT_BYTES
    for wrong in (b"x", bytes(points.POINT_BYTES * (points.MOST + 1))):
        with pytest.raises(ValueError):
            points.Keypoints(wrong)


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (5, 5), (1024, 3)])
def test_odd_sizes_are_no_trouble(shape: tuple[int, int]) -> None:
    points.extract_keypoints(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8))


# --- Looks -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("models")
def test_the_original_looks_most_alike() -> None:
    photos = [Image.open(path).convert("RGB") for path in sorted(CALIBRATION.glob("*.jpg"))[:24]]
    kept = HammingIndex(np.stack([code(photo) for photo in photos]))
    for change in CHANGES.values():
        differing = kept.differing(code(change(photos[4])).tobytes())
        assert differing.argmin() == 4
        assert differing[4] <= image_codes.LIMIT * image_codes.FEATURES


def code(image: Picture) -> NDArray[np.uint8]:
    return np.frombuffer(image_codes.image_code(np.asarray(image.convert("RGB"))), np.uint8)


# --- Sound -----------------------------------------------------------------------------------------------


def sound(seed: int, seconds: int = 8) -> NDArray[np.float32]:
    """Noise whose colour changes five times a second."""
    random = np.random.default_rng(seed)
    pieces = [
        np.convolve(random.normal(size=3200), random.normal(size=64), "same") for _ in range(5 * seconds)
    ]
    joined = np.concatenate(pieces)
    return (joined / np.abs(joined).max() * 0.8).astype(np.float32)


def index_of(*prints: bytes) -> SoundIndex:
    return SoundIndex.of((bytes([number]) * 16, one) for number, one in enumerate(prints))


@pytest.mark.parametrize("cut", [0, 800, 8400, 30_013])
def test_a_sound_is_known_again_cut_and_quieter(cut: int) -> None:
    index = index_of(*(sounds.audio_fingerprint(sound(seed)) for seed in range(6)))
    ((owner, heard),) = index.heard_in(sounds.audio_fingerprint(sound(3)[cut:] * 0.05))
    assert owner == bytes([3]) * 16
    assert heard.differing <= sounds.LIMIT
    assert heard.shift == pytest.approx(cut / sounds.HOP, abs=0.6)


def test_a_piece_of_a_listed_sound_and_a_listed_piece_are_both_found() -> None:
    whole, piece = (
        sounds.audio_fingerprint(sound(1, 12)),
        sounds.audio_fingerprint(sound(1, 12)[48_000:112_000]),
    )
    assert len(index_of(whole).heard_in(piece)) == 1
    assert len(index_of(piece).heard_in(whole)) == 1


def test_another_sound_is_not_heard() -> None:
    index = index_of(*(sounds.audio_fingerprint(sound(seed)) for seed in range(6)))
    assert index.heard_in(sounds.audio_fingerprint(sound(99))) == []
    assert SoundIndex((), ()).heard_in(sounds.audio_fingerprint(sound(99))) == []


@pytest.mark.parametrize("samples", [0, 1, 6400, 30_000])
def test_what_is_too_short_or_silent_has_no_print(samples: int) -> None:
    assert sounds.audio_fingerprint(sound(1)[:samples]) == b""
    assert sounds.audio_fingerprint(np.zeros(160_000, np.float32)) == b""


def test_silence_within_a_sound_agrees_with_nothing() -> None:
    silent = np.zeros(160_000, np.float32)
    one, other = (np.concatenate([sound(seed, 3), silent]) for seed in (1, 2))
    assert index_of(sounds.audio_fingerprint(one)).heard_in(sounds.audio_fingerprint(other)) == []


def test_a_hum_does_not_make_the_index_slow() -> None:
    hum = np.tile(np.uint32(7), sounds.MOST).astype("<u4").tobytes()
    assert sounds.MOST > COMMON
    assert index_of(hum).heard_in(hum) == []


def test_a_print_is_bounded() -> None:
    long = np.tile(sound(1, 20), 20)
    assert len(sounds.audio_fingerprint(long)) == 4 * sounds.MOST


# --- Films and the detector ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("agreeing", "mine", "theirs", "expected"),
    [
        ([1, 2], 9, 9, False),
        ([1, 2, 5], 9, 9, True),
        ([1, 1, 1], 9, 9, False),
        ([0], 9, 1, True),
        ([0], 1, 9, True),
    ],
)
def test_three_frames_make_a_film(agreeing: list[int], mine: int, theirs: int, expected: bool) -> None:
    assert enough_frames_match(agreeing, mine, theirs) is expected


@pytest.mark.usefixtures("models")
def test_the_detector_gives_what_can_be_read_back(tmp_path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(b"content")
    pixels = drawing(0, 480, 640)
    finding = load_detector("fingerprints").examine(Item("image", "image/png", path, pixels))
    read = Fingerprints.read(finding.fields["fingerprints"])
    assert read.sha256 == fingerprints.sha256_of(path)
    assert [one.hex() for one in (read.pdq, *read.turned)] == TURNED
    assert (len(read.code), len(read.points) % points.POINT_BYTES) == (image_codes.BYTES, 0)
    assert len(read.points) > 50 * points.POINT_BYTES


def test_the_detector_fingerprints_films_with_their_sound() -> None:
    shots = [VideoFrame(float(second), drawing(second, 90, 160)) for second in range(3)]
    item = Item("video", "video/mp4", shots=shots, sound=sound(1))
    read = Fingerprints.read(load_detector("fingerprints").examine(item).fields["fingerprints"])
    assert [frame.at_s for frame in read.frames] == [0.0, 1.0, 2.0]
    assert read.frames[1].pdq == pdq.pdq(shots[1].pixels).content
    assert read.sound == sounds.audio_fingerprint(sound(1))


def test_an_item_without_anything_gives_nothing() -> None:
    finding = load_detector("fingerprints").examine(Item("audio", "audio/wav"))
    assert finding.fields == {"fingerprints": {}}
    assert Fingerprints.read({}).empty
