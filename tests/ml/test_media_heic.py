"""Photos as telephones take them: HEIC, decoded as upright as any other, within the same limits."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ml.media import Decoder, MediaError, sniff

FILES = Path(__file__).parent / "heic"
RED, GREEN, BLUE, YELLOW = (200, 40, 40), (40, 180, 60), (40, 70, 200), (230, 210, 60)
WHITE = (255, 255, 255)
TURNED = (BLUE, RED, YELLOW, GREEN)


def quarters(picture: Image.Image | np.ndarray) -> list[tuple[int, ...]]:
    """The colours of upper left, upper right, lower left and lower right."""
    pixels = np.asarray(picture)
    height, width = pixels.shape[:2]
    return [
        tuple(map(int, pixels[int(height * y), int(width * x)])) for y in (0.25, 0.75) for x in (0.25, 0.75)
    ]


def near(found: list[tuple[int, ...]], wanted: tuple[tuple[int, ...], ...]) -> bool:
    return bool(np.abs(np.array(found) - np.array(wanted)).max() <= 8)


def code_of(decoder: Decoder, path: Path) -> tuple[str, str]:
    with pytest.raises(MediaError) as caught:
        decoder.image(path)
    return caught.value.code, caught.value.message


@pytest.mark.parametrize(
    ("name", "size", "colours"),
    [
        ("gps", (144, 96), (RED, GREEN, BLUE, YELLOW)),
        ("rotated", (96, 144), TURNED),
        ("mirrored", (96, 144), (RED, BLUE, GREEN, YELLOW)),
        ("ten_bit", (144, 96), (RED, GREEN, BLUE, YELLOW)),
        ("alpha", (144, 96), (RED, WHITE, BLUE, WHITE)),
        ("several", (144, 96), (BLUE, YELLOW, RED, GREEN)),
        ("tiles", (448, 320), (RED, GREEN, BLUE, YELLOW)),
    ],
)
def test_photos_are_upright_and_have_their_colours(
    decoder: Decoder, name: str, size: tuple[int, int], colours: tuple[tuple[int, ...], ...]
) -> None:
    path = FILES / f"{name}.heic"
    assert sniff(path.read_bytes()) == "image/heic"
    result = decoder.image(path)
    assert (result.width, result.height, result.format, result.frames) == (*size, "HEIF", 1)
    assert result.pixels.shape == (size[1], size[0], 3)
    assert near(quarters(result.pixels), colours)
    assert near(quarters(Image.open(io.BytesIO(result.thumbnail))), colours)


@pytest.mark.parametrize(("name", "kind"), [("gps", "JPEG"), ("rotated", "JPEG"), ("alpha", "PNG")])
def test_what_is_shown_has_no_metadata_and_any_browser_shows_it(
    decoder: Decoder, name: str, kind: str
) -> None:
    result = decoder.image(FILES / f"{name}.heic")
    assert result.has_location == (name == "gps")
    assert result.clean_type == f"image/{kind.lower()}"
    with Image.open(io.BytesIO(result.clean or b"")) as clean:
        assert (clean.format, clean.size) == (kind, (result.width, result.height))
        assert not dict(clean.getexif())
        assert not {"exif", "xmp", "icc_profile"} & clean.info.keys()
        if name == "rotated":
            assert near(quarters(clean), TURNED)
        if name == "alpha":
            assert [pixel[3] for pixel in quarters(clean)] == [255, 0, 255, 0]


def test_a_place_behind_the_photo_is_noticed(decoder: Decoder, tmp_path: Path) -> None:
    path = tmp_path / "motion.heic"
    film = struct.pack(">I4s", 24, b"moov") + b"\xa9xyz+47.3769+008"
    path.write_bytes((FILES / "rotated.heic").read_bytes() + film)
    result = decoder.image(path)
    assert result.has_location
    assert b"\xa9xyz" not in (result.clean or b"")


def declared(name: str, width: int, height: int) -> bytes:
    """A photo that says of itself that it is as large as this."""
    content = bytearray((FILES / f"{name}.heic").read_bytes())
    at = -1
    while (at := content.find(b"ispe", at + 1)) >= 0:
        content[at + 8 : at + 16] = struct.pack(">II", width, height)
    return bytes(content)


@pytest.mark.parametrize(
    ("width", "height"), [(60_000, 60_000), (2**31 - 1, 2), (2**32 - 1, 2**32 - 1), (9_000, 9_000)]
)
def test_declared_sizes_are_refused_before_anything_is_decoded(
    decoder: Decoder, tmp_path: Path, width: int, height: int
) -> None:
    path = tmp_path / "huge.heic"
    path.write_bytes(declared("gps", width, height))
    code, message = code_of(decoder, path)
    assert code in ("too-large", "corrupt"), message
    if width == height == 9_000:
        assert (code, message) == ("too-large", "9000 x 9000 pixels; at most 64,000,000 are allowed")


def test_a_photo_larger_than_it_declares_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "small.heic"
    path.write_bytes(declared("gps", 8, 8))
    decoder = Decoder(max_pixels=1_000)
    try:
        # Cut to what it declares, or refused: never more than is allowed.
        try:
            found = decoder.image(path)
            assert found.width * found.height <= 1_000
        except MediaError as error:
            assert error.code in ("too-large", "corrupt")
    finally:
        decoder.pool.close()


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.97])
def test_truncated_photos_are_refused(decoder: Decoder, tmp_path: Path, share: float) -> None:
    content = (FILES / "tiles.heic").read_bytes()
    path = tmp_path / "cut.heic"
    path.write_bytes(content[: int(len(content) * share)])
    code, message = code_of(decoder, path)
    assert code == "corrupt", message


def test_other_codecs_in_the_same_container_are_named(decoder: Decoder, tmp_path: Path) -> None:
    path = tmp_path / "other.heic"
    path.write_bytes((FILES / "gps.heic").read_bytes().replace(b"hvc1", b"vvc1"))
    code, message = code_of(decoder, path)
    assert code in ("unsupported", "corrupt"), message


def test_nothing_but_hevc_is_built_in() -> None:
    """No encoder, so no x265 (GPL), and no second decoder of formats that have one here."""
    import pi_heif

    information = pi_heif.libheif_info()
    assert (information["HEIF"], information["AVIF"]) == ("", "")
    assert set(information["decoders"]) == {"libde265"}
