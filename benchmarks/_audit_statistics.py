"""Statistical detectors: copy-move, classic synthetic speech, and the picture score that is not shipped.

What is reported was never used for tuning: other photos than `tune_copy_move.py` takes, and speakers and synthesisers
that the mixtures which score them have not seen.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import _audit_image_score
import numpy as np
from _audit_forgeries import forge, repetitive, resaved
from _data import DATA, rows_of
from _report import Line, at_least, at_most, sized
from numpy.typing import NDArray
from PIL import Image

from ml.auditing.calibration import share_interval
from ml.detectors.base import Detector, Finding, Item, load_detector
from ml.media import Decoder
from research.auditing.speech_data import Utterance, real_utterances, synthetic_utterances
from research.auditing.train_speech import (
    THRESHOLDS_FROM,
    equal_error_rate,
    error_rates,
    held_out,
    without_each,
)

PHOTOS = sized(45, 2)
CODECS: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "PNG": lambda pixels: pixels,
    "q75": lambda pixels: resaved(pixels, 75),
}
#: Real prompts from studios (CC BY-SA 3.0; packages asterisk-core-sounds-*-wav): other gear than was trained on.
PROMPTS = Path("/usr/share/asterisk/sounds")
VOICES = sized(15, 2)


def run(out: Path) -> list[Line]:
    from threadpoolctl import threadpool_limits

    # Threads that wait for each other take more time than they save with matrices of this size.
    with threadpool_limits(1):
        return [*copy_move(), *speech(), *_audit_image_score.run()]


def photos(part: int, most: int) -> list[tuple[str, NDArray[np.uint8]]] | None:
    """Real photos of the open sets: part 0 is for tuning, part 1 for reporting. Products are in one part only."""
    grocery, playground = rows_of("grocery_store"), rows_of("playground_50_50")
    if grocery is None or playground is None:
        return None
    shots = [row for row in grocery if row["kind"] == "photo"]
    mine = set(sorted({row["label"] for row in shots})[part::2])
    seen: Counter[str] = Counter()
    paths = []
    for row in shots:
        seen[row["label"]] += 1
        if row["label"] in mine and seen[row["label"]] <= 2:
            paths.append(f"grocery_store/{row['path']}")
    real = [f"playground_50_50/{row['path']}" for row in playground if row["label"] == "real"]
    mixed = [*paths, *real[part::2]]
    chosen = np.random.default_rng(part).permutation(len(mixed))[:most]
    return [(mixed[at], np.asarray(Image.open(DATA / mixed[at]).convert("RGB"))) for at in sorted(chosen)]


def copy_move() -> list[Line]:
    """How many forgeries and how many untouched pictures are suspected."""
    found = photos(1, PHOTOS)
    if found is None:
        return [Line("copy-move", "skipped: the sets are absent")]
    rng = np.random.default_rng(1)
    untouched = [*(pixels for _, pixels in found), *(pixels for _, pixels in repetitive(rng))]
    forged = [forgery.pixels for _, pixels in found if (forgery := forge(pixels, rng)) is not None]
    detector, lines = load_detector("copy-move"), []
    start, count = time.process_time(), 0
    for codec, save in CODECS.items():
        hits = [_look(detector, save(pixels)) for pixels in forged]
        alarms = [_look(detector, save(pixels)) for pixels in untouched]
        count += len(hits) + len(alarms)
        lines += _copy_lines(codec, hits, alarms)
    return [*lines, Line("copy-move: cpu a picture", round((time.process_time() - start) / count, 3), "s")]


def _look(detector: Detector, pixels: NDArray[np.uint8]) -> Finding:
    height, width = pixels.shape[:2]
    return detector.examine(Item("image", "image/png", pixels=pixels, width=width, height=height))


def _copy_lines(codec: str, hits: Sequence[Finding], alarms: Sequence[Finding]) -> list[Line]:
    """Suspected: over the lower threshold, that of 5 % false alarms on the tuning photos; likely: over that of 1 %."""
    suspected = [sum(one.above in ("band", "likely") for one in each) for each in (hits, alarms)]
    likely = [sum(one.above == "likely" for one in each) for each in (hits, alarms)]
    intervals = (
        share_interval(count, len(each)) for count, each in zip(suspected, (hits, alarms), strict=True)
    )
    shown = [f"{low:.3f} to {high:.3f}" for low, high in intervals]
    return [
        at_least(f"copy-move {codec}: forgeries suspected ({len(hits)})", suspected[0] / len(hits), 0.80),
        at_most(
            f"copy-move {codec}: untouched suspected ({len(alarms)})", suspected[1] / len(alarms), 0.08, ""
        ),
        Line(f"  95 % of both, {codec}", ", ".join(shown)),
        Line(f"  {codec}: likely, forgeries", round(likely[0] / len(hits), 3)),
        Line(f"  {codec}: likely, untouched", round(likely[1] / len(alarms), 3)),
    ]


def speech() -> list[Line]:
    """Equal error rates by synthesiser, then the shipped model on what it was not made for."""
    if rows_of("spoken_digits") is None:
        return [Line("speech", "skipped: the set is absent")]
    lines = _crossed(DATA / "spoken_digits")
    with Decoder() as decoder:
        lines += _neural(decoder)
    return lines


def _crossed(folder: Path) -> list[Line]:
    real, synthetic = real_utterances(folder), synthetic_utterances()
    if not synthetic:
        return [
            Line(
                "speech, classic synthesisers",
                "skipped: none is installed (research/auditing/synthesisers.py)",
            )
        ]
    lines = [Line("speech: utterances, real and synthetic", f"{len(real)} and {len(synthetic)}")]
    keys: dict[str, Callable[[Utterance], str]] = {
        "synthesiser": lambda one: one.program,
        "technique": lambda one: one.technique,
    }
    mixtures = without_each(real)
    for name, key in keys.items():
        rates = error_rates(held_out(real, synthetic, key, mixtures))
        mean = float(np.mean([np.mean(each) for each in rates.values()]))
        told = f"speech: mean equal error rate, unseen {name} and speaker"
        lines.append(at_most(told, mean, 0.10, "") if name == "synthesiser" else Line(told, round(mean, 4)))
        for group, each in rates.items():
            spread = f"({min(each):.3f} to {max(each):.3f} by speaker)"
            lines.append(Line(f"  {group} {spread}", round(float(np.mean(each)), 4)))
    return lines


def _neural(decoder: Decoder) -> list[Line]:
    """The shipped model on other sets: it was not trained for neural voices, and reals come from other gear."""
    detector, lines = load_detector("synthetic-speech"), []
    rows = rows_of("speech_real_vs_fake") or []
    groups = [
        (
            f"other {label} speech",
            [DATA / "speech_real_vs_fake" / row["path"] for row in rows if row["label"] == label],
        )
        for label in ("real", "fake")
    ]
    gtts = rows_of("spoken_captions_gtts") or []
    groups.append(("gTTS", [DATA / "spoken_captions_gtts" / row["path"] for row in gtts[:VOICES]]))
    groups.append(("real studio prompts, it and ru", sorted(_prompts())))
    found = {name: [_hear(detector, decoder, path) for path in paths] for name, paths in groups if paths}
    for name, findings in found.items():
        places = Counter(one.above if one.state == "examined" else one.state for one in findings)
        shown = ", ".join(
            f"{place} {count}" for place, count in sorted(places.items(), key=lambda pair: str(pair[0]))
        )
        lines.append(Line(f"shipped speech model on {name} ({len(findings)})", shown))
    if "other real speech" in found and "other fake speech" in found:
        lines.append(_neural_rate(found["other real speech"], found["other fake speech"]))
    return lines


def _neural_rate(real: Sequence[Finding], fake: Sequence[Finding]) -> Line:
    scores = [
        np.asarray([one.synthetic for one in each if one.synthetic is not None]) for each in (real, fake)
    ]
    if min(map(len, scores)) < 5:
        return Line(
            "neural voices: equal error rate", f"too few judged ({len(scores[0])} and {len(scores[1])})"
        )
    told = f"neural voices: equal error rate ({len(scores[0])} real, {len(scores[1])} fake judged)"
    return Line(told, round(equal_error_rate(*scores), 3))


def _prompts() -> Iterator[Path]:
    """Of the languages that set no threshold, prompts of three seconds (48 kB at 8 kHz) and more."""
    for folder in sorted(PROMPTS.glob("*_*")):
        if folder.name.split("_")[0] not in THRESHOLDS_FROM:
            yield from [path for path in sorted(folder.glob("*.wav")) if path.stat().st_size > 48_000][:25]


def _hear(detector: Detector, decoder: Decoder, path: Path) -> Finding:
    info = decoder.probe(path)
    sound = np.concatenate([piece.samples for piece in decoder.sound(path)])
    return detector.examine(
        Item(
            "audio",
            info.media_type,
            path=path,
            sound=sound,
            duration_s=info.duration_s or len(sound) / 16_000,
        )
    )
