"""Small files of every signed format, their damage, and a server that counts who calls."""

from __future__ import annotations

import contextlib
import http.server
import io
import random
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml.media import sniff
from ml.provenance.signing import Keys, sign

Pixels = NDArray[np.uint8]
SOUNDS = {"audio/wav": ("wav", "pcm_s16le"), "audio/mpeg": ("mp3", "libmp3lame")}
FILMS = {"video/mp4": ("mp4", "mpeg4")}


def picture(seed: int = 0, side: int = 192) -> Pixels:
    """A smooth picture with edges and grain."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    waves = sum(np.sin(2 * np.pi * (rng.uniform(-4, 4) * x + rng.uniform(-4, 4) * y)) for _ in range(5))
    plane = 110 + 25 * np.asarray(waves) + 40 * (x > rng.uniform(0.3, 0.7)) + rng.normal(0, 6, (side, side))
    return np.clip(np.stack([plane, plane[::-1], plane.T], axis=-1), 0, 255).astype(np.uint8)


def encoded(pixels: Pixels, kind: str, **options: Any) -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, kind, **options)
    return target.getvalue()


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(encoded(pixels, "JPEG", quality=quality))).convert("RGB"))


def sound(kind: str, codec: str, metadata: dict[str, str] | None = None, seed: int = 0) -> bytes:
    target, rng = io.BytesIO(), np.random.default_rng(seed)
    samples = (6000 * np.sin(np.arange(32_000) * 0.13) + rng.normal(0, 500, 32_000)).astype("<i2")
    with av.open(target, "w", format=kind) as file:
        file.metadata.update(metadata or {})
        stream = file.add_stream(codec, rate=16_000)
        stream.layout = "mono"
        for at in range(0, len(samples), 1152):
            frame = av.AudioFrame.from_ndarray(samples[None, at : at + 1152], format="s16", layout="mono")
            frame.sample_rate = 16_000
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return target.getvalue()


def film(kind: str, codec: str, metadata: dict[str, str] | None = None, seed: int = 0) -> bytes:
    target = io.BytesIO()
    with av.open(target, "w", format=kind) as file:
        file.metadata.update(metadata or {})
        stream = file.add_stream(codec, rate=Fraction(10))
        stream.width = stream.height = 128
        stream.pix_fmt = "yuv420p"
        for at in range(10):
            frame = av.VideoFrame.from_ndarray(picture(seed + at, 128)).reformat(format="yuv420p")
            frame.pts = at
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return target.getvalue()


def films_and_sounds(seed: int = 0) -> dict[str, bytes]:
    """One file of each format that is signed, pictures too."""
    pixels = picture(seed)
    return {
        "image/png": encoded(pixels, "PNG"),
        "image/jpeg": encoded(pixels, "JPEG"),
        **{name: film(*how, seed=seed) for name, how in FILMS.items()},
        **{name: sound(*how, seed=seed) for name, how in SOUNDS.items()},
    }


def media_of(path: Path) -> str:
    with path.open("rb") as file:
        return sniff(file.read(4096)) or "application/octet-stream"


# --- Damage ---


def content_flips(signed: bytes, media_type: str, count: int) -> Iterator[bytes]:
    """``count`` copies, each with one bit changed among the coded pixels or samples."""
    first, last = _content(signed, media_type)
    rng = random.Random(0)
    for _ in range(count):
        copy = bytearray(signed)
        copy[rng.randrange(first, last)] ^= 1 << rng.randrange(8)
        yield bytes(copy)


def _content(signed: bytes, media_type: str) -> tuple[int, int]:
    """Where the coded content lies: from its mark to the end, or to the length that stands there."""
    if media_type == "image/png":
        at = signed.index(b"IDAT")
        return at + 4, at + 4 + int.from_bytes(signed[at - 4 : at])
    if media_type == "image/jpeg":
        at = signed.rindex(b"\xff\xda")
        return at + 14, len(signed) - 2
    if media_type == "audio/wav":
        at = signed.index(b"data")
        return at + 8, at + 8 + int.from_bytes(signed[at + 4 : at + 8], "little")
    if media_type == "video/mp4":
        at = signed.index(b"mdat")
        return at + 4, at - 4 + int.from_bytes(signed[at - 4 : at])
    size = 0
    for byte in signed[6:10]:  # ID3: seven bits a byte
        size = size << 7 | byte
    return size + 10, len(signed)


def transplant(keys: Keys, content: bytes, media_type: str) -> bytes:
    """The manifest of one file around the content of another of the same form."""
    donor = sign(keys, content, media_type)
    other = films_and_sounds(seed=50)[media_type]
    ours, theirs = _content(donor, media_type), _content(sign(keys, other, media_type), media_type)
    signed = sign(keys, other, media_type)
    size = min(ours[1] - ours[0], theirs[1] - theirs[0])
    return donor[: ours[0]] + signed[theirs[0] : theirs[0] + size] + donor[ours[0] + size :]


def reread(signed: bytes, media_type: str) -> bytes:
    """Decoded and encoded again, as any editor or app does."""
    if media_type.startswith("image/"):
        target = io.BytesIO()
        Image.open(io.BytesIO(signed)).convert("RGB").save(target, media_type[6:].upper())
        return target.getvalue()
    target = io.BytesIO()
    kind, codec = {**SOUNDS, **FILMS}[media_type]
    with av.open(io.BytesIO(signed)) as source, av.open(target, "w", format=kind) as file:
        old = source.streams[0]
        new = file.add_stream(codec, rate=old.codec_context.framerate if media_type in FILMS else 16_000)
        if media_type in FILMS:
            new.width = new.height = 128
            new.pix_fmt = "yuv420p"
        else:
            new.layout = "mono"
        for at, frame in enumerate(source.decode(old)):
            frame.pts = at if media_type in FILMS else None
            if media_type in FILMS:
                frame.time_base = Fraction(1, 10)
            file.mux(new.encode(frame))
        file.mux(new.encode(None))
    return target.getvalue()


def remote_manifest(url: str) -> bytes:
    return encoded(picture(), "JPEG", xmp=xmp(f'dcterms:provenance="{url}"'))


class Watcher:
    """A local server that counts who calls; hostile files name its address."""

    def __enter__(self) -> Self:
        self._calls: list[str] = []
        calls = self._calls

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                calls.append(self.path)
                self.send_error(404)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/store.c2pa"
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def calls_by_default(self, content: bytes) -> int:
        """How often the library calls for ``content`` with its own settings; not counted any more afterwards."""
        import c2pa

        with contextlib.suppress(c2pa.C2paError):
            c2pa.Reader("image/jpeg", io.BytesIO(content))
        count = len(self._calls)
        self._calls.clear()
        return count

    def calls(self) -> int:
        return len(self._calls)


def xmp(attributes: str, inside: str = "") -> bytes:
    spaces = {
        "xmp": "http://ns.adobe.com/xap/1.0/",
        "dcterms": "http://purl.org/dc/terms/",
        "photoshop": "http://ns.adobe.com/photoshop/1.0/",
        "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
        "tc": "http://www.tc260.org.cn/ns/AIGC/1.0/",
        "xmpMM": "http://ns.adobe.com/xap/1.0/mm/",
        "stEvt": "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#",
    }
    names = " ".join(f'xmlns:{name}="{uri}"' for name, uri in spaces.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" {names} {attributes}>{inside}</rdf:Description></rdf:RDF></x:xmpmeta>'
        '<?xpacket end="w"?>'
    ).encode()
