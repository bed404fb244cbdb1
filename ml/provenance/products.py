"""The names under which generators sign, and the keys where a name means that this program made the file."""

from __future__ import annotations

import re

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
