"""Declared metadata: what generators write is found and named, what cameras write is not, bombs are bounded."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ml.detectors.base import Item, load_detector
from ml.provenance.credentials import ai_kind, sanitize_text, source_type_code
from ml.provenance.tags import read_tags
from ml.provenance.tags.fields import MAX_TEXT
from tests.ml.provenance_files import SOURCE, chunk, film, picture, png, sound, textured, xmp
from tests.speed import LINEAR, growth

Look = Callable[..., dict[str, Any]]
PARAMETERS = "a pier\nNegative prompt: fog\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 3, Size: 512x512"
GRAPH = json.dumps({"3": {"class_type": "KSampler", "inputs": {"seed": 5}}})
LABEL = json.dumps({"AIGC": {"Label": "1", "ContentProducer": "Kling"}})


@pytest.fixture
def look(tmp_path: Path) -> Look:
    detector = load_detector("declared")

    def look(content: bytes, media_type: str = "image/png") -> dict[str, Any]:
        path = tmp_path / "file"
        path.write_bytes(content)
        found = detector.examine(Item("image", media_type, path))
        assert found.state == "examined"
        json.dumps([found.evidence, found.fields])
        return dict(found.fields["declared"]) | {"evidence": list(found.evidence)}

    return look


def exif(**entries: Any) -> Image.Exif:
    numbers = {
        "Make": 0x010F,
        "Model": 0x0110,
        "Software": 0x0131,
        "Artist": 0x013B,
        "ImageDescription": 0x010E,
    }
    made = Image.Exif()
    for name, value in entries.items():
        if name == "UserComment":
            made.get_ifd(0x8769)[0x9286] = value
        else:
            made[numbers[name]] = value
    return made


def source_type(code: str) -> str:
    return f'Iptc4xmpExt:DigitalSourceType="{SOURCE}{code}"'


GENERATED = {
    "a1111 png": ("image/png", png(parameters=PARAMETERS), "Stable Diffusion web UI"),
    "a1111 jpeg": (
        "image/jpeg",
        picture("JPEG", exif=exif(UserComment=b"UNICODE\x00" + PARAMETERS.encode("utf-16-be"))),
        "Stable Diffusion web UI",
    ),
    "a1111 webp": (
        "image/webp",
        picture("WEBP", exif=exif(UserComment=b"UNICODE\x00" + PARAMETERS.encode("utf-16-le"))),
        "Stable Diffusion web UI",
    ),
    "packed text": (
        "image/png",
        png(chunk(b"zTXt", b"parameters\x00\x00" + zlib.compress(PARAMETERS.encode()))),
        "Stable Diffusion web UI",
    ),
    "international text": (
        "image/png",
        png(chunk(b"iTXt", b"parameters\x00\x01\x00\x00\x00" + zlib.compress(PARAMETERS.encode()))),
        "Stable Diffusion web UI",
    ),
    "comfyui": ("image/png", png(prompt=GRAPH), "ComfyUI"),
    "comfyui webp": ("image/webp", picture("WEBP", exif=exif(Model="prompt:" + GRAPH)), "ComfyUI"),
    "novelai": ("image/png", png(Software="NovelAI", Comment='{"uc": "", "sampler": "k"}'), "NovelAI"),
    "invokeai": ("image/png", png(invokeai_metadata='{"seed": 1}'), "InvokeAI"),
    "fooocus": ("image/png", png(parameters='{"base_model": "x", "sharpness": 2}'), "Fooocus"),
    "swarmui": ("image/png", png(parameters='{"sui_image_params": {}}'), "SwarmUI"),
    "midjourney": (
        "image/png",
        png(Description="fox --v 6 Job ID: 1f2e3d4c-aaaa-bbbb-cccc-0123456789ab"),
        "Midjourney",
    ),
    "some tool": ("image/png", png(prompt="a fox", seed="4", steps="20"), "a diffusion tool"),
    "flux": (
        "image/jpeg",
        picture("JPEG", exif=exif(Software="AI generated;txt2img;flux", Make="Black Forest Labs")),
        "FLUX",
    ),
    "dall-e": ("image/jpeg", picture("JPEG", exif=exif(Software="DALL·E 3".encode())), "DALL·E"),
    "firefly": ("image/jpeg", picture("JPEG", xmp=xmp('xmp:CreatorTool="Adobe Firefly 3"')), "Adobe Firefly"),
    "google": ("image/jpeg", picture("JPEG", xmp=xmp('photoshop:Credit="Made with Google AI"')), "Google AI"),
    "iptc": ("image/webp", picture("WEBP", xmp=xmp(source_type("trainedAlgorithmicMedia"))), ""),
    "iptc in avif": ("image/avif", picture("AVIF", xmp=xmp(source_type("trainedAlgorithmicMedia"))), ""),
    "iptc in gif": ("image/gif", picture("GIF") + xmp(source_type("trainedAlgorithmicMedia")), ""),
    "tiff": ("image/tiff", picture("TIFF", tiffinfo={305: "Stable Diffusion XL"}), "Stable Diffusion"),
    "ai system": (
        "image/jpeg",
        picture("JPEG", xmp=xmp('Iptc4xmpExt:AISystemUsed="Some New Model"')),
        "Some New Model",
    ),
    "label": (
        "image/jpeg",
        picture("JPEG", xmp=xmp("", '<aigc:AIGC>{"Label": "1", "ContentProducer": "Doubao"}</aigc:AIGC>')),
        "Doubao",
    ),
    "label in film": ("video/mp4", film(comment=LABEL), "Kling"),
    "suno": (
        "audio/mpeg",
        sound("mp3", "libmp3lame", comment="made with suno; created=2026-01-01; id=6c8a40fd"),
        "Suno",
    ),
    "udio": ("audio/wav", sound(comment="made with udio"), "Udio"),
    "elevenlabs": ("audio/flac", sound("flac", "flac", encoded_by="ElevenLabs"), "ElevenLabs"),
    "sora": ("video/mp4", film(comment="made with Sora"), "Sora"),
}


@pytest.mark.parametrize("name", GENERATED)
def test_what_generators_write_is_found_and_named(look: Look, name: str) -> None:
    media_type, content, generator = GENERATED[name]
    found = look(content, media_type)
    assert (found["state"], found["ai"], found["kind"]) == ("found", True, "generated")
    assert found["generator"] == generator
    assert found["evidence"][0]["place"] and found["evidence"][0]["key"]


HONEST = {
    "nothing": ("image/png", png()),
    "camera": ("image/jpeg", picture("JPEG", exif=exif(Make="Canon", Model="EOS R6", Software="1.8.2"))),
    "editor": ("image/jpeg", picture("JPEG", xmp=xmp('xmp:CreatorTool="Adobe Photoshop 26.1 (Windows)"'))),
    "raw developer": ("image/jpeg", picture("JPEG", xmp=xmp(source_type("digitalCapture")))),
    "clever editor": ("image/jpeg", picture("JPEG", exif=exif(Software="Topaz Photo AI 3.1", Make="NIKON"))),
    "people": ("image/jpeg", picture("JPEG", exif=exif(Artist="Sora Gemini", Software="Luminar AI"))),
    "caption": (
        "image/jpeg",
        picture(
            "JPEG", exif=exif(ImageDescription="The Midjourney stand: Stable Diffusion, seed 4, steps: 3")
        ),
    ),
    "named after": ("image/png", png(Title="DALL-E", Comment="Steps: of the church", prompt="bash")),
    "music": ("audio/mpeg", sound("mp3", "libmp3lame", title="Suno", artist="Udio", comment="live")),
    "clip": ("video/mp4", film(title="Sora", artist="Runway", comment="from my phone")),
    "json": ("image/png", png(Comment='{"prompt": "x", "width": 4}', parameters="[1, 2]")),
    "drawn by a program": ("image/jpeg", picture("JPEG", xmp=xmp(source_type("algorithmicMedia")))),
}


@pytest.mark.parametrize("name", HONEST)
def test_what_others_write_is_not(look: Look, name: str) -> None:
    media_type, content = HONEST[name]
    found = look(content, media_type)
    assert (found["state"], found["ai"], found["generator"], found["evidence"]) == ("none", False, "", [])
    assert found["complete"] is True


def test_the_camera_is_shown_all_the_same(look: Look) -> None:
    found = look(picture("JPEG", exif=exif(Make="Canon", Model="EOS R6", Software="1.8.2")), "image/jpeg")
    assert (found["camera"], found["software"]) == ("Canon EOS R6", "1.8.2")


@pytest.mark.parametrize(
    "attributes",
    [source_type("compositeWithTrainedAlgorithmicMedia"), 'photoshop:Credit="Edited with Google AI"'],
)
def test_photos_with_generated_parts_are_told_apart(look: Look, attributes: str) -> None:
    found = look(picture("JPEG", xmp=xmp(attributes)), "image/jpeg")
    assert (found["state"], found["ai"], found["kind"]) == ("found", True, "composite")


def test_a_label_that_only_suspects_is_not_a_declaration_of_ai(look: Look) -> None:
    label = '{"Label": "3", "ContentPropagator": "a site"}'
    found = look(picture("JPEG", xmp=xmp("", f"<aigc:AIGC>{label}</aigc:AIGC>")), "image/jpeg")
    assert (found["state"], found["ai"], found["kind"]) == ("found", False, "suspected")


def test_the_history_of_an_edited_file_tells_too(look: Look) -> None:
    history = (
        '<xmpMM:History><rdf:Seq><rdf:li stEvt:softwareAgent="Adobe Firefly"/></rdf:Seq></xmpMM:History>'
    )
    found = look(picture("JPEG", xmp=xmp("", history)), "image/jpeg")
    assert (found["generator"], found["evidence"][0]["key"]) == ("Adobe Firefly", "stEvt:softwareAgent")


def test_extended_xmp_of_several_segments_is_put_together(look: Look) -> None:
    packet = xmp(
        "", "<xmp:Label>" + "x" * 70_000 + "</xmp:Label><xmp:CreatorTool>Midjourney</xmp:CreatorTool>"
    )
    segments = b""
    for at in reversed(range(0, len(packet), 60_000)):  # in any order
        piece = packet[at : at + 60_000]
        body = (
            b"http://ns.adobe.com/xmp/extension/\x00"
            + b"A" * 32
            + struct.pack(">II", len(packet), at)
            + piece
        )
        segments += b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    content = picture("JPEG")
    assert look(content[:2] + segments + content[2:], "image/jpeg")["generator"] == "Midjourney"


def test_parameters_hidden_in_alpha_are_read(look: Look, tmp_path: Path) -> None:
    text = gzip.compress(json.dumps({"Software": "NovelAI"}).encode())
    hidden = b"stealth_pngcomp" + struct.pack(">I", 8 * len(text)) + text
    bits = np.unpackbits(np.frombuffer(hidden, np.uint8))
    alpha = np.full(64 * 96, 254, np.uint8)
    alpha[: len(bits)] |= bits
    pixels = np.dstack([textured(0, 64, 96), alpha.reshape(96, 64).T])
    Image.fromarray(pixels, "RGBA").save(tmp_path / "hidden.png")

    found = look((tmp_path / "hidden.png").read_bytes())

    assert (found["generator"], found["evidence"][0]["place"]) == ("NovelAI", "alpha")


# --- Hostile files ---


def test_a_packed_bomb_gives_a_bounded_text(tmp_path: Path) -> None:
    bomb = chunk(b"zTXt", b"parameters\x00\x00" + zlib.compress(bytes(50 << 20), 1))
    (tmp_path / "bomb.png").write_bytes(
        png(chunk(b"zTXt", b"k\x00\x00" + zlib.compress(b"y" * (16 << 20))), bomb)
    )
    tags = read_tags(tmp_path / "bomb.png", "image/png")
    assert [(tag.key, len(tag.text)) for tag in tags.tags] == [("k", MAX_TEXT)]
    assert tags.complete is False


def test_many_bombs_end_with_the_budget(tmp_path: Path) -> None:
    packed = b"k\x00\x00" + zlib.compress(b"y" * (2 << 20))
    (tmp_path / "bombs.png").write_bytes(png(*[chunk(b"zTXt", packed)] * 100))
    tags = read_tags(tmp_path / "bombs.png", "image/png")
    assert sum(len(tag.text) for tag in tags.tags) <= 8 << 20
    assert tags.complete is False


@pytest.mark.parametrize(
    "packet",
    [
        b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><x:xmpmeta xmlns:x="adobe:ns:meta/">&b;</x:xmpmeta>',
        b'<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd"><x:xmpmeta xmlns:x="adobe:ns:meta/"/>',
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/">' + b"<x:a>" * 50_000,
        b'<?xml version="1.0" encoding="nonsense"?><x:xmpmeta xmlns:x="adobe:ns:meta/"/>',
        b"<x:xmpmeta" * 5_000,
        b"\xff\xfe<\x00",
    ],
)
def test_hostile_xmp_is_left_out_and_said(look: Look, packet: bytes) -> None:
    found = look(png(chunk(b"iTXt", b"XML:com.adobe.xmp\x00\x00\x00\x00\x00" + packet)))
    assert (found["state"], found["complete"]) == ("none", False)


def test_directories_that_point_at_themselves_end(tmp_path: Path, look: Look) -> None:
    entry = struct.pack("<HHII", 0x8769, 4, 1, 8)
    loop = b"II*\x00" + struct.pack("<IH", 8, 1_000) + entry * 1_000
    found = look(png(chunk(b"eXIf", loop)))
    assert found["state"] == "none"


def test_a_length_beyond_the_file_is_not_believed(look: Look) -> None:
    content = png()[:33] + struct.pack(">I", 0x7FFFFFFF) + b"tEXtparameters\x00" + PARAMETERS.encode()
    assert look(content)["generator"] == "Stable Diffusion web UI"
    assert look(content)["complete"] is False


def test_a_hundred_thousand_chunks_take_no_time(look: Look) -> None:
    assert growth(lambda chunks: look(png(chunk(b"tEXt", b"k\x00v") * chunks)), 25_000) < LINEAR
    assert look(png(chunk(b"tEXt", b"k\x00v") * 100_000))["complete"] is False


@pytest.mark.parametrize("name", ["a1111 png", "a1111 jpeg", "comfyui webp", "tiff", "label in film", "suno"])
def test_truncated_and_flipped_files_never_raise(look: Look, name: str) -> None:
    media_type, content, _ = GENERATED[name]
    for at in range(0, len(content), max(1, len(content) // 25)):
        look(content[:at], media_type)
        copy = bytearray(content)
        copy[at] ^= 0xFF
        look(bytes(copy), media_type)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["png", "jpeg", "webp", "gif", "tiff", "heic"]))
def test_any_bytes_are_survived(tmp_path_factory: pytest.TempPathFactory, content: bytes, kind: str) -> None:
    heads = {
        "png": b"\x89PNG\r\n\x1a\n",
        "jpeg": b"\xff\xd8",
        "webp": b"RIFF....WEBP",
        "gif": b"GIF89a",
        "tiff": b"II*\x00",
    }
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(heads.get(kind, b"") + content)
    read_tags(path, f"image/{kind}")


def test_hostile_strings_are_made_plain() -> None:
    assert sanitize_text("a\u202eb\x00c\u200b\n d") == "ab c d".replace("b c", "bc")
    assert sanitize_text("x" * 500) == "x" * 199 + "…"
    assert sanitize_text({"not": "text"}) == sanitize_text(True) == sanitize_text(None) == ""


def test_source_types_in_every_spelling() -> None:
    for text in (
        "trainedAlgorithmicMedia",
        SOURCE + "trainedAlgorithmicMedia",
        "digsrctype:trainedalgorithmicmedia",
    ):
        assert source_type_code(text) == "trainedAlgorithmicMedia"
    assert (
        source_type_code("http://example.org/nonsense") == source_type_code(None) == source_type_code(7) == ""
    )
    assert ai_kind(["digitalCapture", "algorithmicMedia"]) == ""
    assert ai_kind(["compositeSynthetic", "trainedAlgorithmicMedia"]) == "generated"
