"""Make `open-1` and `open-2`: ``python -m research.open_space build --photos FOLDER``.

`open-2` has the same numbers, and the classes of `prior-2` as one more part: a manifest beside.

FOLDER holds a few dozen photographs that may be used freely, of which only the mean is kept: the open set
``playground_50_50`` (MIT). ``--cache`` keeps what the encoders say of the sentences: some 60 minutes of one core
without VNNI, half of that with it, for 7,500 captions and 3,180 phrases; the rest takes seconds. ``calibrate`` writes
the ranges by which the tower is rounded: after that the tower has another version, and every vector of it is another.
``relevance`` writes into both manifests how likely a match of some score is right; a quarter of an hour of one core.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ml

OUT = Path(ml.__file__).parent / "alignment" / "spaces" / "open-1"
TEXT_ENCODER, IMAGE_ENCODER = "bundled:multilingual", "bundled:clip-vit-b16"
#: Whose classes are a part of `open-2`, and along how many of its axes: of 604 photos 116 find no more.
PRIOR, CLASS_DIMENSIONS = "prior-2", 64
#: Of 302 captions, each of which asks for its photograph and for another caption of it among as many others, this finds
#: nearly most among the first ten, and words before pictures where both are right.
STORED_HUB = -1.2
#: Sentences between two saves of the cache.
PIECE = 100
#: Things whose names are compared from language to language, and groups of emoji that are no things.
NAMES, LEFT_OUT = 400, (2, 9)
#: Photographs that show how large values become in the tower.
CALIBRATED = 16


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status comes back."""
    parser = argparse.ArgumentParser(prog="python -m research.open_space", description=__doc__)
    parser.add_argument("command", choices=("build", "calibrate", "relevance"))
    parser.add_argument("--photos", type=Path, help="for build and calibrate")
    parser.add_argument("--data", type=Path, help="for relevance: the folder with the sets that may ship")
    parser.add_argument(
        "--names", type=Path, help="emojibase-data: names of the same things in many languages"
    )
    parser.add_argument("--cache", type=Path, default=Path("var/open-1"))
    parser.add_argument("--captions", type=int, default=None, help="only so many of them")
    parser.add_argument("--out", type=Path, default=OUT, help="default: the shipped space's folder")
    options = parser.parse_args(arguments)
    # Sums split over threads round differently: one thread, set before NumPy loads, gives equal bytes.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    if options.command != "relevance" and options.photos is None:
        parser.error("--photos is missing: a folder with photographs that may be used freely")
    if options.command == "relevance" and options.data is None:
        parser.error("--data is missing: the folder with the sets that teach")
    {"build": _make, "calibrate": _calibrate, "relevance": _relevance}[options.command](options)
    return 0


def _relevance(options: argparse.Namespace) -> None:
    """Both manifests, with the curves of how likely a match is right."""
    import json

    from ml.alignment.space import JointSpace
    from ml.alignment.storage import MANIFEST
    from research.open_space import relevance

    cached = _Cache(options.cache)
    for folder in (options.out, options.out.with_name("open-2")):
        space = JointSpace.load(folder)
        found, words = relevance.curves(_embedded(space, cached), options.data)
        path = folder / MANIFEST
        described = json.loads(path.read_text("utf-8"))
        described["relevance"] = relevance.stated(found, words)
        path.write_text(json.dumps(described, indent=1, sort_keys=True) + "\n", "utf-8")
        print(f"{folder.name}: {json.dumps(described['relevance'])}")


def _embedded(space: Any, cached: _Cache) -> Any:
    from ml.media import Decoder
    from research.open_space.relevance import Embedded

    decoder, name = Decoder(), f"{space.id}-{space.version} {space.encoders_key}"

    def texts(asked: Sequence[str]) -> Any:
        return cached.rows(
            f"{name} texts", list(asked), lambda part: space.embed_texts([asked[n] for n in part])
        )

    def pictures(paths: Sequence[Path]) -> Any:
        def seen(part: range) -> Any:
            return space.embed_images([decoder.image(paths[n], thumbnail=False).pixels for n in part])

        return cached.rows(f"{name} pictures", [str(path) for path in paths], seen)

    return Embedded(
        lambda asked: space.as_typed(texts(asked), asked),
        lambda told: space.as_asset(texts(told)),
        pictures,
        space.as_query,
    )


def _calibrate(options: argparse.Namespace) -> None:
    import numpy as np
    import onnx
    from PIL import Image
    from safetensors.numpy import save_file

    from ml.compression import clip
    from ml.compression.graph import calibrate
    from ml.compression.store import packaged_file

    size = (clip.SIDE, clip.SIDE)
    opened = (Image.open(path).convert("RGB") for path in _photos(options.photos)[:CALIBRATED])
    pictures = [np.asarray(one.resize(size, Image.Resampling.BICUBIC)) for one in opened]
    path = packaged_file(clip.PACKAGE, clip.FILE, clip.DIGEST)
    graph = clip.float_graph(onnx.load(str(path)), every_token=True)
    found = calibrate(graph, [{"pixels": picture[None]} for picture in pictures])
    save_file({name: value.astype(np.float16) for name, value in sorted(found.items())}, clip.MAXIMA)


def _photos(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not found:
        sys.exit(f"error: there is no picture in {folder}")
    return found


def _make(options: argparse.Namespace) -> None:
    import numpy as np
    from PIL import Image

    from ml.alignment.storage import write_space
    from ml.alignment.tower_space import class_arrays
    from ml.alignment.vocabulary import general_glosses, written_phrases
    from ml.encoders.base import load_encoder
    from ml.encoders.multilingual import FIRST
    from research.open_space import build
    from research.open_space.captions import captions, phrases, translations
    from research.open_space.rendering import render

    reads, sees = load_encoder(TEXT_ENCODER), load_encoder(IMAGE_ENCODER)
    cached = _Cache(options.cache)

    def read(name: str, texts: list[str]) -> Any:
        return cached.rows(
            f"{name}-{reads.version}", texts, lambda part: reads.encode([texts[n] for n in part])
        )

    def pictured(name: str, english: list[str], others: dict[str, dict[str, str]]) -> build.Sentences:
        """``others``: by language, texts in English to what they are there; of those that are in the list."""
        pictures = cached.rows(
            f"{name}-{sees.version}", english, lambda part: sees.encode([render(english[n], n) for n in part])
        )
        place = {text: number for number, text in enumerate(english)}
        translated = {}
        for code, said in others.items():
            found = {place[text]: there for text, there in said.items() if text in place}
            translated[code] = build.Translated(
                np.array(list(found)), read(f"{name}-{code}", list(found.values()))
            )
        return build.Sentences(read(name, english), pictures, translated)

    listed = captions()[: options.captions]
    said = pictured("captions", [one.english for one in listed], {"zh": dict(listed), **translations()})
    parts = dict(phrases())
    bare = pictured(
        "phrases", list(dict.fromkeys([*parts, *(one.text for one in written_phrases())])), {"zh": parts}
    )
    names = pictured("names", *_names(options.names)) if options.names else None
    opened = (Image.open(path).convert("RGB") for path in _photos(options.photos))
    photos = sees.encode([np.asarray(picture) for picture in opened])
    space = build.build(said, bare, photos, read("glosses", general_glosses()), FIRST, names)
    encoders = {"text": TEXT_ENCODER, "text_version": reads.version, "image": [IMAGE_ENCODER]}
    counts = {
        "captions": len(said.texts),
        "translations": sum(len(one.places) for code, one in said.others.items() if code != "zh"),
        "phrases": len(bare.texts),
        "photos": len(photos),
    }
    described = build.manifest(space, encoders, counts, build.languages(said, names))
    # `open-1` does without them.
    classes = build.classes_of(space, _prior(), CLASS_DIMENSIONS)
    write_space(options.out, space.arrays() | class_arrays(classes), described)
    print(f"space of {space.dimension} dimensions written to {options.out}")
    beside = _write_second(options.out)
    print(f"the same with classes written to {beside}")


def _prior() -> Any:
    from ml.alignment.storage import SHIPPED, read_space

    return read_space(SHIPPED / PRIOR)[0]


def _write_second(first: Path) -> Path:
    """The manifest of the same numbers with the classes of a prior, in the folder beside that has the next version."""
    import json

    from ml.alignment.storage import MANIFEST, SHIPPED, TENSORS

    described = json.loads((first / MANIFEST).read_text("utf-8"))
    prior = json.loads((SHIPPED / PRIOR / MANIFEST).read_text("utf-8"))
    encoders = described["encoders"]
    described |= {
        "version": "2",
        "dimension": described["dimension"] + CLASS_DIMENSIONS,
        "tensors": f"../{first.name}/{TENSORS}",
        "encoders": {**encoders, "image": [*encoders["image"], *prior["encoders"]["image"]]},
        "classes": True,
        "stored_hub": STORED_HUB,
    }
    beside = first.with_name("open-2")
    beside.mkdir(exist_ok=True)
    (beside / MANIFEST).write_text(json.dumps(described, indent=1, sort_keys=True) + "\n")
    return beside


def _names(folder: Path) -> tuple[list[str], dict[str, dict[str, str]]]:
    """What emojibase-data calls the same NAMES emoji in English, and by language what each of these is there; in an
    order that is always the same."""
    import json
    import random

    named: dict[str, dict[str, str]] = {}
    for file in sorted(folder.glob("??/data.json")):
        entries = [one for one in json.loads(file.read_text("utf-8")) if one.get("group") is not None]
        named[file.parent.name] = {
            one["hexcode"]: one["label"] for one in entries if one["group"] not in LEFT_OUT
        }
    if "en" not in named:
        sys.exit(f"error: {folder} does not hold emojibase-data")
    common = sorted(set.intersection(*(set(labels) for labels in named.values())))
    random.Random(0).shuffle(common)  # noqa: S311
    english = named.pop("en")
    kept = {english[key]: key for key in common[:NAMES]}
    return list(kept), {
        code: {text: labels[key] for text, key in kept.items()} for code, labels in named.items()
    }


class _Cache:
    """Rows that take long to compute, piece by piece, so that a command that was killed goes on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def rows(self, name: str, texts: Sequence[str], make: Callable[[range], Any]) -> Any:
        """[n, d] of ``texts``, PIECE of them at a time."""
        import numpy as np

        parts = []
        for start in range(0, len(texts), PIECE):
            part = range(start, min(start + PIECE, len(texts)))
            digest = hashlib.sha256(
                "\n".join([name, *(texts[number] for number in part)]).encode()
            ).hexdigest()
            path = self._folder / f"{digest[:24]}.npy"
            if not path.exists():
                rows = make(part)
                np.save(path.with_suffix(".part.npy"), rows)
                path.with_suffix(".part.npy").replace(path)
                print(f"{name}: {part.stop} of {len(texts)}", file=sys.stderr, flush=True)
            parts.append(np.load(path))
        return np.concatenate(parts)


if __name__ == "__main__":
    sys.exit(main())
