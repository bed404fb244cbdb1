"""Pictures inside the decoding child: Pillow only, no numpy, no network, no plug-in beyond six formats."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import Any

import pi_heif
from PIL import AvifImagePlugin, Image, ImageCms, ImageOps, UnidentifiedImageError

from ml.media.model import File, MediaError
from ml.media.sniffing import HEAD_BYTES, sniff

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "HEIF")
TYPES = {"image/jpeg", "image/png", "image/webp", "image/gif", "image/avif", "image/heic"}
#: What no browser shows gets a clean rendition whether it tells a place or not: that is what is handed out.
UNSEEN = ("HEIF",)

LONGEST_SIDE, THUMBNAIL_SIDE = 1024, 384

#: Top-level boxes of a HEIF file that are looked at; a photo has three or four.
MAX_BOXES = 1_000

#: Formats whose clean rendition is a lossless PNG; all others become JPEG, or PNG where they are transparent.
#: Writing WebP or AVIF again would take several times the picture's memory.
LOSSLESS = ("PNG", "GIF")

# The size is checked against max_pixels right after the header is read; Pillow's own check only warns.
Image.MAX_IMAGE_PIXELS = None
warnings.simplefilter("ignore")

# A thread a core reserves so much address space on a large machine that the memory limit would be hit.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

# libheif, with the decoder of HEVC alone (docs/adr/0034-heic-through-pi-heif.md). Its information is asked for so that
# it has loaded all that it needs before a child may open no more files.
pi_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
pi_heif.libheif_info()

ORIENTATION, GPS = 0x0112, 0x8825
LOCATION_MARKS = (
    b"GPSLatitude",
    b"GPSLongitude",
    b"exif:GPS",
    b"Photoshop 3.0\0",
    b"ns.adobe.com/xmp/extension/",
)

#: Of a film behind a photo ("live" and "motion" photos), and of items beside the one that is shown.
HEIF_MARKS = (b"\xa9xyz", b"ISO6709", b"GPMF", b"moov")

_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    EOFError,
    struct.error,
    zlib.error,
)


def decode(path: File, max_pixels: int, thumbnail: bool) -> tuple[dict[str, Any], list[bytes]]:
    """Answer header and parts (pixels, thumbnail, clean) of the picture at ``path``. Raises MediaError."""
    try:
        return _decode(path, max_pixels, thumbnail)
    except _BROKEN as error:
        raise MediaError(
            "corrupt", f"the picture is damaged: {str(error)[:200] or type(error).__name__}"
        ) from None
    except RuntimeError as error:
        # What the decoders of AVIF and HEIF raise for everything.
        raise _told(str(error)) from None


def _told(reason: str) -> Exception:
    """What the words of a decoder's error mean."""
    lowered = reason.lower()
    if "memory" in lowered:
        return MemoryError()
    if "limit" in lowered:
        return MediaError("too-large", f"more than is allowed: {reason[:200]}")
    if "unsupported" in lowered:
        return MediaError("unsupported", f"the picture is coded in a way that is not read: {reason[:200]}")
    return MediaError("corrupt", f"the picture is damaged: {reason[:200]}")


def _decode(path: File, max_pixels: int, thumbnail: bool) -> tuple[dict[str, Any], list[bytes]]:
    with open_picture(path, max_pixels) as image:
        header: dict[str, Any] = {"format": _format(image)}
        size = image.size
        _shrink_on_load(image)
        image.load()
        _check_size(image, max_pixels)  # what HEIF declares outside of the coded picture may be less
        exif = image.getexif()
        turned = exif.get(ORIENTATION) in (5, 6, 7, 8)
        header["width"], header["height"] = size[::-1] if turned else size
        header["has_location"] = has_location(image, exif) or may_hide_location(path, header["format"])
        small = flatten(shrink(image, LONGEST_SIDE))
        header["frames"] = _frames(image)
    parts = [small.tobytes(), encode_thumbnail(small) if thumbnail else b""]
    header["shape"] = [small.height, small.width]
    if header["format"] in UNSEEN:  # decoded whole above, which is what takes its time
        header["clean_type"], clean = encode_clean(image, header["format"])
        parts.append(clean)
    elif header["has_location"]:
        with open_picture(path, max_pixels) as whole:
            header["clean_type"], clean = encode_clean(whole, header["format"])
        parts.append(clean)
    return header, parts


def open_picture(path: File, max_pixels: int) -> Image.Image:
    """Read the header only, and refuse by format and by pixel count."""
    try:
        image = Image.open(path.open("rb"), formats=FORMATS)
    except UnidentifiedImageError:
        raise _refusal(path) from None
    _check_size(image, max_pixels)
    if image.format == "HEIF":
        _check_whole(path)
    return image


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        image.close()
        raise MediaError("too-large", f"{width} x {height} pixels; at most {max_pixels:,} are allowed")


def _check_whole(path: File) -> None:
    """libheif leaves tiles grey whose data are missing; a file that was cut off is refused, as in other formats."""
    with path.open("rb") as file:
        end, at = file.seek(0, 2), 0
        for _ in range(MAX_BOXES):
            file.seek(at)
            head = file.read(16)
            size, kind = int.from_bytes(head[:4]), head[4:8]
            if size == 1:
                size = int.from_bytes(head[8:])
            if size < 8 or kind not in (b"ftyp", b"meta", b"mdat", b"free", b"skip"):
                return
            at += size
            if at > end:
                raise MediaError("corrupt", "the picture is damaged: its end is missing")


def _refusal(path: File) -> Exception:
    with path.open("rb") as file:
        media_type = sniff(file.read(HEAD_BYTES))
    if media_type == "image/heic":
        return _heif_refusal(path, media_type)
    if media_type in TYPES:
        return MediaError("corrupt", f"the {media_type} file is damaged")
    return MediaError(
        "unsupported", f"not a JPEG, PNG, WebP, GIF, AVIF or HEIC picture ({media_type or 'unknown'})"
    )


def _heif_refusal(path: File, media_type: str) -> Exception:
    """Pillow keeps the reason to itself, so libheif is asked once more."""
    try:
        pi_heif.open_heif(path.open("rb"))
    except (*_BROKEN, RuntimeError) as error:
        return _told(str(error))
    return MediaError("corrupt", f"the {media_type} file is damaged")


def _format(image: Image.Image) -> str:
    # Phones put a second picture (depth, HDR gain) behind a JPEG; the first one is the photo.
    return "JPEG" if image.format == "MPO" else str(image.format)


def _frames(image: Image.Image) -> int:
    if image.format in ("MPO", "HEIF"):  # further pictures of a photo, not of a film
        return 1
    try:
        return int(getattr(image, "n_frames", 1))
    except _BROKEN:
        return 1


def _shrink_on_load(image: Image.Image) -> None:
    """JPEG decodes at 1/2, 1/4 or 1/8 for a fraction of the cost; never below what is asked for."""
    if image.format in ("JPEG", "MPO"):
        image.draft(None, (LONGEST_SIDE, LONGEST_SIDE))


def shrink(image: Image.Image, longest: int, how: Image.Resampling = Image.Resampling.BICUBIC) -> Image.Image:
    """Fit into ``longest`` x ``longest`` pixels, never enlarged, in a mode that can be averaged."""
    image = averageable(image)
    scale = longest / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), how, reducing_gap=2.0)


def averageable(image: Image.Image) -> Image.Image:
    """Palette to colours, 16 bits scaled (not clipped) to 8; all other modes as they are."""
    if image.mode in ("I", "I;16", "I;16B", "I;16L"):
        # Sixteen bits a pixel whatever the mode says: PNG knows no wider integers.
        return image.convert("I").point([value >> 8 for value in range(65536)], "L")
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "RGBa":
        return image.convert("RGBA")
    if image.mode in ("P", "PA") or "transparency" in image.info:
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    return image


def flatten(image: Image.Image) -> Image.Image:
    """Orientation applied, in sRGB, on white: mode RGB."""
    image = to_srgb(ImageOps.exif_transpose(image))
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(image, mask=image.getchannel("A"))
    return white


def to_srgb(image: Image.Image) -> Image.Image:
    """Apply an embedded colour profile (print CMYK, wide-gamut phones); a broken one is ignored."""
    raw = image.info.get("icc_profile")
    if not raw or image.mode not in ("RGB", "RGBA", "CMYK"):
        return image
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(raw))
        if "sRGB" in ImageCms.getProfileDescription(profile):
            return image
        target = "RGBA" if image.mode == "RGBA" else "RGB"
        return (
            ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode=target)
            or image
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image


def has_location(image: Image.Image, exif: Image.Exif) -> bool:
    """A GPS directory in EXIF, or GPS properties in XMP, whichever format carries them."""
    if exif.get_ifd(GPS):
        return True
    for key in ("xmp", "XML:com.adobe.xmp"):
        packet = image.info.get(key, b"")
        if b"GPS" in (packet.encode("utf-8", "replace") if isinstance(packet, str) else packet):
            return True
    return False


def may_hide_location(path: File, source_format: str) -> bool:
    """Places that Pillow does not read: IPTC fields, extended XMP, XMP of a GIF, a second picture or a film behind.

    It errs on the side of a rendition without metadata, which costs nothing but a re-encoding.
    """
    with path.open("rb") as stream:
        raw = stream.read()
    if source_format == "HEIF":
        # The list of items names each EXIF once more.
        return any(mark in raw for mark in (*LOCATION_MARKS, *HEIF_MARKS)) or raw.count(b"Exif\0\0") > 2
    return any(mark in raw for mark in LOCATION_MARKS) or raw.count(b"Exif\0\0") > 1


def encode_thumbnail(small: Image.Image) -> bytes:
    """JPEG, longest side at most 384 pixels: WebP costs 2.3 ms more, a quarter of all decoding in an import."""
    target = io.BytesIO()
    tiny = shrink(small, THUMBNAIL_SIDE, Image.Resampling.HAMMING)
    tiny.save(target, "JPEG", quality=80)
    return target.getvalue()


def encode_clean(image: Image.Image, source_format: str) -> tuple[str, bytes]:
    """The whole picture again (first frame, full size), upright, in sRGB, without any metadata."""
    upright = to_srgb(ImageOps.exif_transpose(averageable(image)))
    transparent = upright.has_transparency_data
    mode = "RGBA" if transparent else "L" if upright.mode == "L" else "RGB"
    bare = upright.convert(mode)
    # Pillow writes what it finds in ``info`` (EXIF, XMP, comments, profile); an empty one carries nothing.
    bare.info = {}
    target = io.BytesIO()
    if transparent or source_format in LOSSLESS:
        bare.save(target, "PNG")
        return "image/png", target.getvalue()
    bare.save(target, "JPEG", quality=95)
    return "image/jpeg", target.getvalue()
