"""Metadata as generators, cameras and editors write it; through Pillow and FFmpeg, not what is measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from _audit_provenance_files import FILMS, SOUNDS, Pixels, encoded, film, sound, xmp
from PIL import Image, PngImagePlugin

# --- What generators write (names before the colon are what has to be found) ---

PARAMETERS = (
    "a lighthouse at dusk, oil painting\nNegative prompt: blurry\nSteps: 24, Sampler: DPM++ 2M Karras, CFG scale: 7,"
    " Seed: 2894710, Size: 512x512, Model hash: 6ce0161689, Model: v1-5-pruned, Version: v1.10.1"
)
GRAPH = json.dumps({"3": {"class_type": "KSampler", "inputs": {"seed": 5, "steps": 20}}})
SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/"


def _png(**texts: str) -> Callable[[Pixels], tuple[str, bytes]]:
    def write(pixels: Pixels) -> tuple[str, bytes]:
        info = PngImagePlugin.PngInfo()
        for at, (key, text) in enumerate(texts.items()):
            info.add_itxt(key, text, zip=True) if at % 2 else info.add_text(key, text)
        return "image/png", encoded(pixels, "PNG", pnginfo=info, compress_level=1)

    return write


def _exif(kind: str, entries: dict[int, Any]) -> Callable[[Pixels], tuple[str, bytes]]:
    def write(pixels: Pixels) -> tuple[str, bytes]:
        exif = Image.Exif()
        for tag, value in entries.items():
            if tag == 0x9286:
                exif.get_ifd(0x8769)[tag] = value
            else:
                exif[tag] = value
        return f"image/{kind.lower()}", encoded(pixels, kind, exif=exif)

    return write


def _xmp(kind: str, attributes: str, inside: str = "") -> Callable[[Pixels], tuple[str, bytes]]:
    return lambda pixels: (f"image/{kind.lower()}", encoded(pixels, kind, xmp=xmp(attributes, inside)))


def _sound(media_type: str, **metadata: str) -> Callable[[Pixels], tuple[str, bytes]]:
    return lambda pixels: (media_type, sound(*SOUNDS[media_type], metadata))


def _film(**metadata: str) -> Callable[[Pixels], tuple[str, bytes]]:
    return lambda pixels: ("video/mp4", film(*FILMS["video/mp4"], metadata))


UNICODE = b"UNICODE\x00"
WRITERS: dict[str, Callable[[Pixels], tuple[str, bytes]]] = {
    "Stable Diffusion web UI:png": _png(parameters=PARAMETERS),
    "Stable Diffusion web UI:jpeg": _exif("JPEG", {0x9286: UNICODE + PARAMETERS.encode("utf-16-be")}),
    "Stable Diffusion web UI:webp": _exif("WEBP", {0x9286: UNICODE + PARAMETERS.encode("utf-16-le")}),
    "ComfyUI:png": _png(prompt=GRAPH, workflow='{"last_node_id": 9, "nodes": []}'),
    "ComfyUI:webp": _exif(
        "WEBP", {0x0110: "prompt:" + GRAPH, 0x010F: 'workflow:{"last_node_id": 9, "nodes": []}'}
    ),
    "NovelAI:png": _png(
        Software="NovelAI", Source="Stable Diffusion 4BDE2A90", Comment='{"uc": "", "sampler": "k"}'
    ),
    "InvokeAI:png": _png(invokeai_metadata='{"positive_prompt": "a cat", "seed": 1}'),
    "InvokeAI:old": _png(Dream='"a cat" -s 50 -S 12345 -W 512 -H 512 -C 7.5 -A k_lms'),
    "Fooocus:png": _png(parameters='{"base_model": "x", "sharpness": 2}', fooocus_scheme="fooocus"),
    "SwarmUI:png": _png(parameters='{"sui_image_params": {"prompt": "x"}}'),
    "Midjourney:png": _png(
        Description="a fox --ar 3:2 --v 6.1 Job ID: 1f2e3d4c-aaaa-bbbb-cccc-0123456789ab", Author="someone"
    ),
    "FLUX:jpeg": _exif(
        "JPEG", {0x0131: "AI generated;txt2img;flux", 0x010F: "Black Forest Labs", 0x0110: "flux-schnell"}
    ),
    "DALL·E:jpeg": _exif("JPEG", {0x0131: "DALL-E 3"}),
    "Adobe Firefly:jpeg": _xmp("JPEG", 'xmp:CreatorTool="Adobe Firefly"'),
    "Google AI:jpeg": _xmp(
        "JPEG",
        'photoshop:Credit="Made with Google AI"',
        f"<Iptc4xmpExt:DigitalSourceType>{SOURCE}trainedAlgorithmicMedia</Iptc4xmpExt:DigitalSourceType>",
    ),
    ":source type": _xmp(
        "WEBP", f'Iptc4xmpExt:DigitalSourceType="{SOURCE}compositeWithTrainedAlgorithmicMedia"'
    ),
    "Meta AI:jpeg": _xmp("JPEG", 'photoshop:Credit="Imagined with AI"'),
    "Doubao:label": _xmp("JPEG", "", '<tc:AIGC>{"Label": "1", "ContentProducer": "Doubao"}</tc:AIGC>'),
    "Suno:mp3": _sound("audio/mpeg", comment="made with suno; created=2026-02-01T10:00:00Z; id=6c8a40fd"),
    "Udio:wav": _sound("audio/wav", comment="made with udio"),
    "ElevenLabs:mp3": _sound("audio/mpeg", encoded_by="ElevenLabs"),
    "Sora:mp4": _film(comment="made with Sora"),
    "Kling:mp4": _film(comment='{"AIGC": {"Label": "1", "ContentProducer": "Kling"}}'),
}

# --- What cameras and editors write, with everything in it that could mislead ---

HONEST: dict[str, Callable[[Pixels], tuple[str, bytes]]] = {
    "camera": _exif("JPEG", {0x010F: "Canon", 0x0110: "Canon EOS R6", 0x0131: "Firmware Version 1.8.2"}),
    "phone": _exif("JPEG", {0x010F: "Google", 0x0110: "Pixel 9 Pro", 0x0131: "HDR+ 1.0.641"}),
    "editor": _xmp(
        "JPEG",
        f'xmp:CreatorTool="Adobe Photoshop 26.1 (Windows)" Iptc4xmpExt:DigitalSourceType="{SOURCE}digitalCapture"',
        '<xmpMM:History><rdf:Seq><rdf:li stEvt:action="saved" stEvt:softwareAgent="Adobe Photoshop Lightroom'
        ' Classic 14.0 (Macintosh)"/></rdf:Seq></xmpMM:History>',
    ),
    "clever editor": _exif("JPEG", {0x0131: "Topaz Photo AI 3.1", 0x010F: "NIKON CORPORATION"}),
    "another one": _exif("WEBP", {0x0131: "Luminar AI", 0x013B: "Sora Suzuki"}),
    "caption": _exif(
        "JPEG", {0x010E: "The Midjourney booth; seed 12, steps 4, Stable Diffusion talk", 0x0131: "GIMP 3.0"}
    ),
    "artist": _exif("JPEG", {0x013B: "Leonardo Gemini", 0x8298: "© Imagen Studio", 0x0131: "Capture One 23"}),
    "png": _png(
        Software="Adobe ImageReady", Comment="Created with GIMP", Title="Steps: of the Lincoln Memorial"
    ),
    "screenshot": _png(Software="gnome-screenshot", prompt="bash"),
    "music": _sound("audio/mpeg", title="Suno", artist="Udio", comment="recorded live"),
    "clip": _film(title="Sora", comment="Filmed on iPhone", artist="Runway"),
}
