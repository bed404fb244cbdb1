"""What generators write into their files, and how it is told from what cameras and editors write.

Names count only where programs name themselves (``Software``, ``CreatorTool``, ``encoder``…): a caption that mentions a
generator says nothing about the picture. Names that are also words or persons (Sora, Suno, Gemini) count only as the
whole value. Structures (parameters, workflows, labels) count wherever they stand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ml.provenance.credentials import COMPOSITE, GENERATED, source_type_code
from ml.provenance.tags.fields import Tag

# --- Products --------------------------------------------------------------------------------------------
# The names under which generators sign, and the keys where a name means that this program made the file.


#: Keys, in lower case and without their prefix, under which programs name themselves or an agency its credit.
TOOL_KEYS = frozenset({
    "software", "creatortool", "softwareagent", "processingsoftware", "rawdevelopingsoftware",
    "imageeditingsoftware", "originatingprogram", "hostcomputer", "make", "model", "credit",
    "source", "generator", "encoder", "encoded_by", "encodedby", "encoding_tool", "tool",
    "writing_application", "producer", "composer_software", "aisystemused", "author", "artist",
    "creator", "by-line", "vendor", "publisher", "handler_name",
})  # fmt: skip
_PERSON_KEYS = frozenset({"author", "artist", "creator", "by-line", "source", "publisher", "model", "make"})

#: Product names that are nothing else, anywhere in the name of a program.
_NAMES = (
    ("Midjourney", r"mid-?journey|niji ?journey"),
    ("Stable Diffusion", r"stable[ -]?diffusion|sdxl|stability[. ]ai|dreamstudio|diffusionbee|mochi diffusion"),
    ("DALL·E", r"dall[-·• .]?e(?: ?[23])?\b(?!y)"),
    ("OpenAI", r"openai|chatgpt|gpt-4o|gpt[- ]image"),
    ("Adobe Firefly", r"adobe[ _]firefly|firefly[ _]image"),
    ("Adobe generative AI", r"adobe generative ai|generative (?:fill|expand)"),
    ("ComfyUI", r"comfyui"),
    ("InvokeAI", r"invoke[- ]?ai"),
    ("NovelAI", r"novelai"),
    ("Fooocus", r"fooocus"),
    ("Stable Diffusion web UI", r"automatic1111|stable-diffusion-webui|sd\.next|sdnext"),
    ("SwarmUI", r"swarmui"),
    ("Easy Diffusion", r"easy diffusion"),
    ("Draw Things", r"draw ?things"),
    ("FLUX", r"black forest labs|flux\.1|flux\.2|;flux\b"),
    ("Leonardo.Ai", r"leonardo\.?ai"),
    ("Ideogram", r"ideogram ?(?:ai|\d)|ideogram\.ai"),
    ("Google AI", r"made with google ai|google (?:generative ai|imagen|gemini)|imagen \d|nano banana|gemini[ -]\d"),
    ("Meta AI", r"imagined with (?:meta )?ai|meta ai\b"),
    ("Bing Image Creator", r"bing image creator|image creator from (?:microsoft )?designer"),
    ("Amazon Titan / Nova", r"amazon titan|amazon nova canvas|titan image"),
    ("Apple Image Playground", r"image playground"),
    ("Grok", r"grok imagine|xai grok|aurora \(xai\)"),
    ("Craiyon", r"craiyon"),
    ("NightCafe", r"nightcafe"),
    ("Recraft", r"recraft ?(?:ai|v\d)"),
    ("Playground AI", r"playground ?ai\b"),
    ("StyleGAN", r"stylegan|thispersondoesnotexist"),
    ("Dreamina", r"dreamina|jimeng|即梦"),
    ("Doubao", r"doubao|豆包"),
    ("Tongyi Wanxiang", r"通义万相|wanxiang|wan ?2\.\d"),
    ("ERNIE-ViLG", r"文心一格|ernie-vilg"),
    ("Kling", r"kling ?ai|可灵"),
    ("Hailuo", r"hailuo|海螺"),
    ("Hunyuan", r"hunyuan|混元"),
    ("Runway", r"runwayml|runway gen-?\d"),
    ("Pika", r"pika labs|pika ?\d\.\d"),
    ("Luma Dream Machine", r"luma dream machine|luma ?ai"),
    ("Sora", r"openai sora|sora by openai|sora ?[12]\b"),
    ("Veo", r"google veo|veo ?[1-9](?:\.\d)?\b"),
    ("Suno", r"suno ?ai|suno\.(?:com|ai)|made with suno"),
    ("Udio", r"udio\.com|made with udio"),
    ("ElevenLabs", r"eleven ?labs"),
    ("Stable Audio", r"stable audio"),
    ("MusicGen", r"musicgen|audiocraft"),
    ("HeyGen", r"heygen"),
    ("Synthesia", r"synthesia\.io|synthesia studio"),
    ("D-ID", r"\bd-id\b(?:\.com)?"),
    ("", r"^ai[- ]generated\b"),
)  # fmt: skip
_NAMED = [(name, re.compile(rf"(?<![a-z0-9]){pattern}", re.IGNORECASE)) for name, pattern in _NAMES]
#: Names that are words or persons as well: the whole value, but for a version.
_WHOLE = re.compile(
    r"(?P<name>sora|suno|udio|veo|grok|gemini|imagen|ideogram|firefly|flux|kling|runway|pika|leonardo)"
    r"(?:[ /-]*v?\d[\w.\-]*)?",
    re.IGNORECASE,
)
_PARTLY = re.compile(
    r"edited with google ai|apple photos clean ?up|generative (?:fill|expand)", re.IGNORECASE
)


def product_of(key: str, text: str) -> str | None:
    """The generator that a program's name is, None if it is none."""
    if _PARTLY.search(text):
        return next((name for name, pattern in _NAMED if pattern.search(text)), "")
    if key not in _PERSON_KEYS and (whole := _WHOLE.fullmatch(text.strip())):
        return whole["name"].capitalize()
    for name, pattern in _NAMED:
        found = pattern.search(text)
        # A person or source is a generator only if nothing else is said.
        if found and (key not in _PERSON_KEYS or len(found.group()) >= 0.5 * len(text.strip())):
            return name
    return None


def is_partial(text: str) -> bool:
    """Whether the value names a tool that changes parts of a photo."""
    return bool(_PARTLY.search(text))


# --- Signs -----------------------------------------------------------------------------------------------


#: ``generated`` as a whole; ``composite``: captured, with generated parts; ``suspected``: a label that says perhaps.
Kind = Literal["generated", "composite", "suspected"]


@dataclass(frozen=True)
class GeneratorMark:
    """One tag that names a generator. ``generator`` is "" where it says that one was used and not which."""

    generator: str
    tag: Tag
    kind: Kind = "generated"


_PARAMETERS = re.compile(r"\bSteps: \d{1,4}\b")
_PARAMETERS_TOO = re.compile(r"\b(?:Sampler|CFG scale|Seed|Model hash): ?\S")
_MIDJOURNEY = re.compile(
    r"\bJob ID: [0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE
)
_MADE_WITH = re.compile(r"made with (suno|udio|elevenlabs|sora)\b(?: studio| ai)?\s*(?:;|$)", re.IGNORECASE)
_SONG = re.compile(r"https?://(?:www\.)?(suno|udio)\.com/songs?/", re.IGNORECASE)
_DREAM_STEPS, _DREAM_SEED = re.compile(r"\s-s ?\d+\b"), re.compile(r"\s-S ?\d+\b")
_GROK = re.compile(r"Signature: [A-Za-z0-9+/=]{40,}$")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_SETTINGS = frozenset({
    "negative_prompt", "negativeprompt", "seed", "steps", "sampler", "sampler_name", "cfg_scale", "guidance_scale",
    "num_inference_steps", "scheduler",
})  # fmt: skip
_INVOKE = frozenset({"invokeai_metadata", "invokeai_graph", "invokeai_workflow", "sd-metadata"})
_KINDS: Mapping[str, Kind] = {"1": "generated", "2": "suspected", "3": "suspected"}
#: Longer JSON is looked at as text only.
MAX_JSON = 1 << 18


def generator_marks(tags: Sequence[Tag]) -> list[GeneratorMark]:
    """Every tag that tells of a generator, in the order of the file."""
    found = [sign for tag in tags for sign in _signs(tag)]
    return found + _together(tags)


def _signs(tag: Tag) -> Iterator[GeneratorMark]:
    key = tag.key.rpartition(":")[2].lower().replace(" ", "")
    if key in ("digitalsourcetype", "digitalsourcefiletype"):
        code = source_type_code(tag.text)
        if code in GENERATED | COMPOSITE:
            yield GeneratorMark("", tag, "generated" if code in GENERATED else "composite")
    elif key == "aisystemused" and tag.place == "xmp":
        yield GeneratorMark(product_of(key, tag.text[:200]) or tag.text[:100], tag)
    elif key in TOOL_KEYS and (name := product_of(key, tag.text[:200])) is not None:
        yield GeneratorMark(name, tag, "composite" if is_partial(tag.text[:200]) else "generated")
    elif (kind := _labelled(key, tag.text)) is not None:
        yield GeneratorMark(_producer(tag.text), tag, kind)
    elif name := _structure(key, tag):
        yield GeneratorMark(name, tag)


# --- China's label for generated content (GB 45438-2025): JSON under the name AIGC, wherever a format has room ---


def _labelled(key: str, text: str) -> Kind | None:
    if "aigc" not in key and '"AIGC"' not in text[:2000]:
        return None
    label = _label(text).get("Label")
    return _KINDS.get(str(label)) if label is not None else None


def _producer(text: str) -> str:
    producer = _label(text).get("ContentProducer")
    return str(producer)[:100] if isinstance(producer, (str, int)) else ""


def _label(text: str) -> Mapping[str, Any]:
    document = _json(text)
    inner = document.get("AIGC", document)
    if isinstance(inner, str):
        inner = _json(inner)
    return inner if isinstance(inner, dict) else {}


# --- What diffusion tools write ---


def _structure(key: str, tag: Tag) -> str:
    text = tag.text
    if key in _INVOKE or (key == "dream" and _is_dream(text)):
        return "InvokeAI"
    if key == "fooocus_scheme":
        return "Fooocus"
    if "use_stable_diffusion_model" in key or key == "stablediffusionmodel":
        return "Easy Diffusion"
    if _PARAMETERS.search(text) and _PARAMETERS_TOO.search(text):
        return "Stable Diffusion web UI"
    if found := (_MADE_WITH.match(text) or _SONG.match(text)):
        return {"elevenlabs": "ElevenLabs"}.get(found[1].lower(), found[1].capitalize())
    if _MIDJOURNEY.search(text):
        return "Midjourney"
    return _json_structure(key, text)


def _is_dream(text: str) -> bool:
    """Two searches instead of one expression with anything in between, which would read the rest from each -s on."""
    steps = _DREAM_STEPS.search(text)
    return steps is not None and _DREAM_SEED.search(text, steps.end()) is not None


def _json_structure(key: str, text: str) -> str:
    start = text[text.find("{") :] if text[:12].lower().startswith(("prompt:", "workflow:")) else text
    if not start.startswith("{"):
        return ""
    if '"sui_image_params"' in start:
        return "SwarmUI"
    if ('"class_type"' in start and '"inputs"' in start) or (
        '"last_node_id"' in start and '"nodes"' in start
    ):
        return "ComfyUI"
    document = {str(name).lower().replace(" ", "_"): value for name, value in _json(start).items()}
    if "base_model" in document and "sharpness" in document:
        return "Fooocus"
    if "uc" in document and "sampler" in document:
        return "NovelAI"
    has_prompt = bool({"prompt", "positive_prompt"} & document.keys())
    return "a diffusion tool" if has_prompt and len(_SETTINGS & document.keys()) >= 2 else ""


def _together(tags: Sequence[Tag]) -> list[GeneratorMark]:
    """What single tags do not tell, but several do."""
    keys = {tag.key.lower().replace(" ", "_"): tag for tag in tags if tag.place in ("png", "alpha", "exif")}
    found = []
    if "prompt" in keys and len(_SETTINGS & keys.keys()) >= 2:
        found.append(GeneratorMark("a diffusion tool", keys["prompt"]))
    description, artist = keys.get("imagedescription"), keys.get("artist")
    if description and artist and _GROK.match(description.text) and _UUID.fullmatch(artist.text):
        found.append(GeneratorMark("Grok", description))
    return found


def _json(text: str) -> dict[str, Any]:
    if len(text) > MAX_JSON or not text.lstrip().startswith("{"):
        return {}
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
