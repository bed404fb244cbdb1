"""Decoding pictures: right colours and sizes from every format, refusals with the right code."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ml.media import Decoder, MediaError

GPS = {1: "N", 2: (47.0, 22.0, 0.0), 3: "E", 4: (8.0, 32.0, 0.0)}


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def exif(orientation: int | None = None, gps: bool = False) -> Image.Exif:
    tags = Image.Exif()
    if orientation:
        tags[0x0112] = orientation
    if gps:
        tags.get_ifd(0x8825).update(GPS)
    return tags


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + pixels + chunk(b"IEND", b"")


def code_of(decoder: Decoder, path: Path) -> str:
    with pytest.raises(MediaError) as caught:
        decoder.image(path)
    assert caught.value.message
    return caught.value.code


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
def test_every_format(decoder: Decoder, photo: NDArray[np.uint8], tmp_path: Path, name: str) -> None:
    options = {} if name in ("PNG", "GIF") else {"quality": 95}
    result = decoder.image(save(tmp_path / "p", Image.fromarray(photo), format=name, **options))
    assert (result.width, result.height, result.format, result.frames) == (400, 300, name, 1)
    assert result.pixels.shape == (300, 400, 3)
    assert result.pixels.dtype == np.uint8
    assert np.abs(result.pixels.astype(int) - photo).mean() < 8
    assert (result.has_location, result.clean, result.clean_type) == (False, None, None)
    thumbnail = Image.open(io.BytesIO(result.thumbnail))
    assert (thumbnail.format, thumbnail.size) == ("JPEG", (384, 288))


def test_large_pictures_shrink(decoder: Decoder, tmp_path: Path) -> None:
    result = decoder.image(save(tmp_path / "p.jpg", Image.new("RGB", (3000, 1500), (10, 200, 30))))
    assert (result.width, result.height) == (3000, 1500)
    assert result.pixels.shape == (512, 1024, 3)
    assert np.abs(result.pixels[100, 100].astype(int) - (10, 200, 30)).max() <= 2


@pytest.mark.parametrize(("size", "shape"), [((1, 1), (1, 1, 3)), ((20_000, 1), (1, 1024, 3))])
def test_extreme_shapes(
    decoder: Decoder, tmp_path: Path, size: tuple[int, int], shape: tuple[int, ...]
) -> None:
    assert decoder.image(save(tmp_path / "p.png", Image.new("RGB", size))).pixels.shape == shape


def test_orientation(decoder: Decoder, tmp_path: Path) -> None:
    image = Image.new("RGB", (80, 40), "red")
    image.paste((0, 0, 255), (0, 0, 40, 40))
    result = decoder.image(save(tmp_path / "p.jpg", image, exif=exif(6), quality=95))
    # 6: stored turned left, so the blue left half is shown on top.
    assert (result.width, result.height, result.pixels.shape) == (40, 80, (80, 40, 3))
    assert result.pixels[10, 20, 2] > 200
    assert result.pixels[70, 20, 0] > 200


@pytest.mark.parametrize(
    ("name", "clean_type"),
    [("JPEG", "image/jpeg"), ("PNG", "image/png"), ("WEBP", "image/jpeg"), ("AVIF", "image/jpeg")],
)
def test_location_in_exif(decoder: Decoder, tmp_path: Path, name: str, clean_type: str) -> None:
    image = Image.new("RGB", (1200, 600), (200, 20, 20))
    result = decoder.image(save(tmp_path / "p", image, format=name, exif=exif(6, gps=True).tobytes()))
    assert result.has_location
    assert result.clean_type == clean_type
    assert result.clean
    clean = Image.open(io.BytesIO(result.clean))
    assert clean.size == (600, 1200)
    assert not clean.getexif()
    assert b"GPS" not in result.clean
    assert np.abs(np.asarray(clean.convert("RGB"))[5, 5].astype(int) - (200, 20, 20)).max() <= 6


def test_clean_keeps_transparency(decoder: Decoder, tmp_path: Path) -> None:
    image = Image.new("RGBA", (40, 40), (9, 9, 9, 0))
    result = decoder.image(save(tmp_path / "p.webp", image, exif=exif(gps=True).tobytes()))
    assert result.clean_type == "image/png"
    assert result.clean
    assert Image.open(io.BytesIO(result.clean)).getpixel((3, 3))[3] == 0


def test_location_in_xmp(decoder: Decoder, tmp_path: Path) -> None:
    packet = b"<x:xmpmeta><exif:GPSLatitude>47,22N</exif:GPSLatitude></x:xmpmeta>"
    result = decoder.image(save(tmp_path / "p.jpg", Image.new("RGB", (50, 50)), xmp=packet))
    assert result.has_location
    assert result.clean
    assert b"GPS" not in result.clean


def test_exif_without_location_is_no_location(decoder: Decoder, tmp_path: Path) -> None:
    tags = exif(1)
    tags[0x010F] = "Maker"
    assert decoder.image(save(tmp_path / "p.jpg", Image.new("RGB", (50, 50)), exif=tags)).clean is None


def test_transparency_becomes_white(decoder: Decoder, tmp_path: Path) -> None:
    image = Image.new("RGBA", (50, 50), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 25, 50))
    result = decoder.image(save(tmp_path / "p.png", image))
    assert result.pixels[10, 10].tolist() == [0, 0, 255]
    assert result.pixels[10, 40].tolist() == [255, 255, 255]


def test_palette_with_transparency(decoder: Decoder, tmp_path: Path) -> None:
    image = Image.new("P", (10, 10), 0)
    image.putpalette([9, 9, 9, 0, 255, 0])
    image.putpixel((0, 0), 1)
    result = decoder.image(save(tmp_path / "p.png", image, transparency=0))
    assert result.pixels[0, 0].tolist() == [0, 255, 0]
    assert result.pixels[5, 5].tolist() == [255, 255, 255]


def test_sixteen_bits_are_scaled(decoder: Decoder, tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, 0)
    result = decoder.image(save(tmp_path / "p.png", Image.fromarray(ramp)))
    assert np.abs(result.pixels[0, :, 0].astype(int) - np.arange(256)).max() <= 1


@pytest.mark.parametrize(
    ("mode", "colour", "grey"), [("L", 128, 128), ("1", 1, 255), ("LA", (128, 255), 128)]
)
def test_grey_modes(decoder: Decoder, tmp_path: Path, mode: str, colour: object, grey: int) -> None:
    image = Image.new(mode, (1500, 20), colour)
    assert decoder.image(save(tmp_path / "p.png", image)).pixels[3, 3].tolist() == [grey] * 3


def test_cmyk(decoder: Decoder, tmp_path: Path) -> None:
    image = Image.new("CMYK", (60, 60), (0, 255, 255, 0))
    red = decoder.image(save(tmp_path / "p.jpg", image, quality=95)).pixels[30, 30].astype(int)
    assert red[0] > 240
    assert red[1:].max() < 15


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG"])
def test_animation_gives_its_first_frame(decoder: Decoder, tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (30, 30), colour) for colour in ("red", "lime", "blue")]
    path = save(tmp_path / "p", frames[0], format=name, save_all=True, append_images=frames[1:], duration=50)
    result = decoder.image(path)
    assert result.frames == 3
    assert result.pixels[15, 15, 0] > 240
    assert result.pixels[15, 15, 1:].max() < 15


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("share", [0.5, 0.95])
def test_truncated(
    decoder: Decoder, photo: NDArray[np.uint8], tmp_path: Path, name: str, share: float
) -> None:
    path = save(tmp_path / "p", Image.fromarray(photo), format=name)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert code_of(decoder, path) == "corrupt"


def test_damaged_avif_does_not_end_the_decoder(
    decoder: Decoder, photo: NDArray[np.uint8], tmp_path: Path
) -> None:
    path = save(tmp_path / "p", Image.fromarray(photo), format="AVIF")
    content = bytearray(path.read_bytes())
    at = content.index(b"mdat") + 4
    content[at : at + 60] = bytes(60)
    path.write_bytes(content)
    assert code_of(decoder, path) == "corrupt"


@pytest.mark.parametrize("size", [(50_000, 50_000), (2_000_000_000, 1), (8001, 8001)])
def test_bombs_are_refused_by_their_header(decoder: Decoder, tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "p.png"
    path.write_bytes(png_header(*size))
    assert code_of(decoder, path) == "too-large"


def test_header_without_pixels(decoder: Decoder, tmp_path: Path) -> None:
    path = tmp_path / "p.png"
    path.write_bytes(png_header(4000, 4000))
    assert code_of(decoder, path) == "corrupt"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n", "corrupt"),
        (b"\xff\xd8\xff\xe0", "corrupt"),
        (b"GIF89a/*\x01\x00\x01\x00*/=1;alert(1)//", "corrupt"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported"),
        (b"%PDF-1.7", "unsupported"),
        (b"hello", "unsupported"),
        (b"\x00" * 100, "unsupported"),
    ],
)
def test_what_is_no_picture(decoder: Decoder, tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "p.jpg"
    path.write_bytes(content)
    assert code_of(decoder, path) == code


@pytest.mark.parametrize("name", ["TIFF", "BMP", "ICO", "PPM"])
def test_other_formats_are_not_opened(decoder: Decoder, tmp_path: Path, name: str) -> None:
    assert (
        code_of(decoder, save(tmp_path / "p.png", Image.new("RGB", (32, 32)), format=name)) == "unsupported"
    )


def test_random_damage_never_escapes(decoder: Decoder, photo: NDArray[np.uint8], tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for name in ("JPEG", "PNG", "GIF", "WEBP"):
        path = save(tmp_path / "p", Image.fromarray(photo[:60, :60]), format=name)
        original = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(15):
            broken = original.copy()
            broken[rng.integers(12, len(broken), 6)] = rng.integers(0, 256, 6)
            path.write_bytes(broken.tobytes())
            try:
                assert decoder.image(path).pixels.ndim == 3
            except MediaError as error:
                assert error.code in ("corrupt", "unsupported", "too-large")


def test_no_thumbnail_when_not_wanted(decoder: Decoder, tmp_path: Path) -> None:
    path = save(tmp_path / "p.png", Image.new("RGB", (32, 32)))
    assert decoder.image(path, thumbnail=False).thumbnail == b""


@pytest.mark.parametrize(
    "tail",
    [
        b"http://ns.adobe.com/xmp/extension/\0 exif:GPSLatitude",
        b"Photoshop 3.0\x008BIM",
        b"\xff\xd8\xff\xe1\x00\x20Exif\0\0 a second picture \xff\xd8\xff\xe1Exif\0\0",
    ],
    ids=["extended XMP", "IPTC", "second picture"],
)
def test_places_that_may_hide_a_location_are_not_served(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "picture.jpg"
    Image.new("RGB", (8, 8), "red").save(path)
    with Decoder() as decoder:
        assert decoder.image(path).clean is None
        path.write_bytes(path.read_bytes() + tail)
        decoded = decoder.image(path)
    assert decoded.has_location
    assert decoded.clean is not None and tail not in decoded.clean


def test_decoding_says_what_it_cost(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    Image.effect_noise((3000, 3000), 80).save(path)
    with Decoder() as decoder:
        assert 0.01 < decoder.image(path).cpu_s < 10
