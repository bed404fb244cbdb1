"""Words in pictures: what OCR reads of what was written, and what it costs."""

from __future__ import annotations

import time

import numpy as np
from _data import DATA
from _report import Line, at_least, sized
from PIL import Image, ImageDraw, ImageFont

from ml.detectors.base import Detector, Item, load_detector

PICTURES = sized(40, 1)


def pictures() -> list[Line]:
    detector = load_detector("ocr")
    if missing := detector.missing():
        print(f"skipped: {missing}")
        return []
    written, read, spent = _written(detector)
    lines = [Line("ocr: words read rightly, English, 14 to 40 px", f"{read}/{written}"),
             Line("ocr: processor time, picture of 1024 with six lines", round(spent, 3), "s")]  # fmt: skip
    paths = sorted((DATA / "grocery_store").rglob("*.jpg"))[: PICTURES // 2]
    paths += sorted((DATA / "playground_50_50").rglob("*.jpg"))[: PICTURES // 2]
    if not paths:
        return lines
    items = [_picture(Image.open(path).convert("RGB").resize((1024, 768))) for path in paths]
    start = time.process_time()
    for item in items:
        detector.examine(item)
    rate = len(items) / (time.process_time() - start)
    return [*lines, at_least("ocr: photos of 1024 a second and core", rate, 2, "/s")]


def _written(detector: Detector) -> tuple[int, int, float]:
    sentences = ["meet me behind the station", "you are all worthless", "call this number now", "free gift card inside",
                 "nobody wants you here", "limited time offer"]  # fmt: skip
    written = read = 0
    seconds = []
    for size in (14, 20, 28, 40):
        picture = Image.new("RGB", (1024, 768), (228, 232, 220))
        for at, sentence in enumerate(sentences):
            ImageDraw.Draw(picture).text(
                (40, 40 + 110 * at), sentence, fill=(30, 30, 60), font=ImageFont.load_default(size)
            )
        start = time.process_time()
        found = {word for words in detector.examine(_picture(picture)).words for word in words.text.split()}
        seconds.append(time.process_time() - start)
        words = [word for sentence in sentences for word in sentence.split()]
        written, read = written + len(words), read + sum(word in found for word in words)
    # The first picture also loads the networks.
    return written, read, float(np.mean(seconds[1:]))


def _picture(picture: Image.Image) -> Item:
    return Item("image", "image/png", pixels=np.asarray(picture), width=picture.width, height=picture.height)
