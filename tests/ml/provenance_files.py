"""Small files that the tests of provenance sign, damage and label."""

from __future__ import annotations

import io
import struct
import zlib
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import cache
from typing import Any

import av
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from ml.provenance import signing
from tests.waiting import until

Pixels = NDArray[np.uint8]
SPACES = {
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "dcterms": "http://purl.org/dc/terms/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "aigc": "http://www.tc260.org.cn/ns/AIGC/1.0/",
    "xmpMM": "http://ns.adobe.com/xap/1.0/mm/",
    "stEvt": "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#",
}
SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/"


def textured(seed: int = 0, height: int = 256, width: int = 256) -> Pixels:
    """A picture with slopes, edges and grain."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / 256
    waves = sum(np.sin(2 * np.pi * (rng.uniform(-4, 4) * x + rng.uniform(-4, 4) * y)) for _ in range(5))
    plane = 110 + 25 * np.asarray(waves) + 40 * (x > 0.5) + rng.normal(0, 5, (height, width))
    return np.clip(np.stack([plane, plane + 9, plane - 9], axis=-1), 0, 255).astype(np.uint8)


def picture(kind: str, seed: int = 0, **options: Any) -> bytes:
    target = io.BytesIO()
    Image.fromarray(textured(seed, 64, 96)).save(target, kind, **options)
    return target.getvalue()


def png(*chunks: bytes, **texts: str) -> bytes:
    """A PNG with text chunks, and raw ones before its end."""
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    content = picture("PNG", pnginfo=info)
    return content[:-12] + b"".join(chunks) + content[-12:]


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def xmp(attributes: str = "", inside: str = "") -> bytes:
    names = " ".join(f'xmlns:{name}="{uri}"' for name, uri in SPACES.items())
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" {names} {attributes}>{inside}</rdf:Description></rdf:RDF></x:xmpmeta>'
    ).encode()


def sound(kind: str = "wav", codec: str = "pcm_s16le", seed: int = 0, **metadata: str) -> bytes:
    target = io.BytesIO()
    samples = np.random.default_rng(seed).integers(-3000, 3000, 8_064).astype("<i2")
    with av.open(target, "w", format=kind) as file:
        file.metadata.update(metadata)
        stream = file.add_stream(codec, rate=16_000)
        stream.layout = "mono"
        for at in range(0, len(samples), 1152):
            frame = av.AudioFrame.from_ndarray(samples[None, at : at + 1152], format="s16", layout="mono")
            frame.sample_rate = 16_000
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return target.getvalue()


def film(seed: int = 0, **metadata: str) -> bytes:
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as file:
        file.metadata.update(metadata)
        stream = file.add_stream("mpeg4", rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for at in range(5):
            pixels = textured(seed + at, 64, 96)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
            frame.pts = at
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return target.getvalue()


def every_format(seed: int = 0) -> dict[str, bytes]:
    """A file of each format that the platform signs."""
    return {
        "image/png": picture("PNG", seed),
        "image/jpeg": picture("JPEG", seed),
        "video/mp4": film(seed),
        "audio/wav": sound(seed=seed),
        "audio/mpeg": sound("mp3", "libmp3lame", seed),
    }


# --- Signed by somebody else --------------------------------------------------------------------------------


def strangers_keys(life: timedelta = signing.LEAF_LIFE) -> signing.Keys:
    """Of a generator's maker, whose root nobody here knows; the leaf lives for ``life``."""
    root_key, leaf_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = signing.subject_name("OpenAI", "A root of somebody else")
    root = (
        signing._certificate(name, name, root_key.public_key(), signing.ROOT_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(signing._usage(signs=False, issues=True), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    of = signing.subject_name("OpenAI", "A generator")
    leaf = signing.issue_certificate(of, leaf_key.public_key(), root, root_key, issues=False, life=life)
    anchor = root.public_bytes(Encoding.PEM)
    chain = leaf.public_bytes(Encoding.PEM) + anchor
    return signing.Keys(anchor.decode(), chain, signing.private_pem(leaf_key))


@cache
def declared_by_a_stranger() -> bytes:
    """A PNG as OpenAI's come: intact credentials of an unknown signer, which say that a model made it."""
    return signing.sign(strangers_keys(), picture("PNG", 3), "image/png", made_by="GPT-4o")


@cache
def declared_and_expired() -> tuple[bytes, str]:
    """The same, whose signer's certificate has expired since, and the root (PEM): it takes some three seconds once.

    Nothing signs with a certificate that has expired, so this signs with one that is about to.
    """
    import c2pa

    for seconds in (2, 4, 8, 16):
        keys = strangers_keys(timedelta(seconds=seconds))
        try:
            signed = signing.sign(keys, picture("PNG", 4), "image/png", made_by="GPT-4o")
        except c2pa.C2paError:
            continue  # the machine was so busy that it expired before
        ends = x509.load_pem_x509_certificate(keys.chain).not_valid_after_utc
        until(lambda ends=ends: datetime.now(UTC) > ends + timedelta(seconds=1.1))
        return signed, keys.root
    raise AssertionError("no certificate lived long enough to sign with")


def tampered(signed: bytes) -> bytes:
    """A signed PNG with one bit of one pixel changed, in a file that is sound otherwise."""
    at = signed.index(b"IDAT")
    length = int.from_bytes(signed[at - 4 : at])
    content = bytearray(zlib.decompress(signed[at + 4 : at + 4 + length]))
    content[-100] ^= 1
    return signed[: at - 4] + chunk(b"IDAT", zlib.compress(bytes(content))) + signed[at + 8 + length :]
