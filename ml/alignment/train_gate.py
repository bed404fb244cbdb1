"""Trains the gate that ships: ``python -m ml.alignment.train_gate DATA [--out FOLDER] [--cache FOLDER]``.

Only on sets that may be used freely: the grocery shop (MIT: photos, catalogue pictures, descriptions), pictures of
playground_50_50 (MIT) and modern_generators (Apache-2.0, CC BY) with sentences of banking77 (CC BY) and clinc150 (CC
BY) or with the names of what the encoder sees in them, and grocery descriptions that Debian's synthesisers read.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.alignment import damage, fit_gate, gating
from ml.alignment.composed import (
    CHATTER,
    CLEAN,
    WRONG,
    Composed,
    Eyes,
    Menu,
    Shot,
    Wanted,
    assembled,
    compose,
    seeded,
)
from ml.alignment.fit_gate import Examples, Settings
from ml.alignment.gating import Network, Part
from ml.alignment.overheard import VOICES, Ears, Said
from ml.alignment.space import JointSpace

Row = dict[str, Any]

#: Every kind; the benchmark leaves one out at a time as well.
PICTURES, WORDS = tuple(damage.PICTURES), (WRONG, CHATTER, *damage.WORDS)
SOUNDS = ("clip", "shorten", "hiss")
#: How much more a query counts in which nothing is wrong: there is one for several with damage.
CLEAN_COUNTS = 2.0
PRIOR = dict.fromkeys(gating.PARTS, 1 / len(gating.PARTS))
#: A fifth of the groups decide when to stop.
HELD_SHARE = 5
GATE_ID, VERSION = "gate", "1"


class Sources:
    """The sets, composed. ``data`` is the folder of them."""

    def __init__(self, data: Path, eyes: Eyes, ears: Ears | None) -> None:
        self._data, self._eyes, self._ears = data, eyes, ears
        rows = self.rows("grocery_store")
        self.products = [row for row in rows if row["kind"] == "catalogue"]
        self.photos = [row for row in rows if row["kind"] == "photo"]
        self._place = {row["label"]: at for at, row in enumerate(self.products)}
        self.chatter = [row["text"] for row in self.rows("banking77")][:400]

    def rows(self, name: str) -> list[Row]:
        lines = (self._data / name / "manifest.jsonl").read_text("utf-8").splitlines()
        return [json.loads(line) for line in lines if line.strip()]

    def all(self) -> Iterator[Composed]:
        """Every set that the gate is trained on."""
        yield from self.grocery()
        yield from self.catalogue()
        yield from self.open()
        if self._ears is not None:
            yield self.spoken()

    # --- The shop ---

    def grocery(self) -> Iterator[Composed]:
        """Phone photos and names: for catalogue pictures with and without descriptions, and for other photos."""
        pictures = self._eyes.store([self._path(row) for row in self.products], "products")
        about = self._eyes.space.embed_texts([row["text"] for row in self.products])
        menu = Menu(PICTURES, WORDS, 3, 3)
        named = [self._of_photo(row, False) for row in self.photos]
        yield self._composed("grocery/described", named, [pictures, about], menu)
        yield self._composed(
            "grocery/pictures", [self._of_photo(row, True) for row in self.photos], [pictures], menu
        )
        shelf = self._eyes.store([self._path(row) for row in self.photos], "shelf")
        told = about[[self._place[row["label"]] for row in self.photos]]
        yield self._composed("grocery/shelf", list(self._on_shelf(named)), [shelf, told], menu)

    def catalogue(self) -> Iterator[Composed]:
        """Other views of the catalogue pictures themselves."""
        pictures = self._eyes.store([self._path(row) for row in self.products], "products")
        about = self._eyes.space.embed_texts([row["text"] for row in self.products])
        wanted = [self._of_product(row, self._path(row), False) for row in self.products]
        menu = Menu(PICTURES, WORDS, 6, 4)
        yield self._composed("catalogue/described", wanted, [pictures, about], menu)
        yield self._composed("catalogue/pictures", wanted, [pictures], menu)

    def _composed(self, name: str, wanted: Sequence[Wanted], gallery: Sequence[Any], menu: Menu) -> Composed:
        return compose(name, wanted, gallery, menu, self._eyes, self.chatter)

    def _of_photo(self, photo: Row, sentences: bool) -> Wanted:
        product = self.products[self._place[photo["label"]]]
        return replace(self._of_product(product, self._path(photo), sentences), view=False)

    def _of_product(self, product: Row, picture: Path, sentences: bool) -> Wanted:
        others = [row for row in self.products if row["coarse"] != product["coarse"]]
        words = [product["title"], *([_sentence(product)] if sentences else [])]
        wrong = [said for row in others for said in (row["title"], _sentence(row))]
        return Wanted(product["coarse"], picture, words, [self._place[product["label"]]], wrong)

    def _on_shelf(self, named: Sequence[Wanted]) -> Iterator[Wanted]:
        labels = np.array([row["label"] for row in self.photos])
        for at, (one, label) in enumerate(zip(named, labels, strict=True)):
            same = np.flatnonzero(labels == label)
            if len(same) > 1:
                yield replace(one, right=same.tolist(), itself=at)

    def _path(self, row: Row) -> Path:
        return self._data / "grocery_store" / row["path"]

    # --- Pictures without captions ---

    def open(self) -> Iterator[Composed]:
        """With sentences that have nothing to do with them, hence no agreement; and with names of what they show."""
        paths = [
            self._data / name / row["path"]
            for name in ("playground_50_50", "modern_generators")
            for row in self.rows(name)
        ]
        pictures, menu = self._eyes.store(paths, "open-gallery"), Menu(PICTURES, WORDS, 4, 3)
        intents = self._intents(paths, pictures, menu)
        intents.agreement_known = False
        yield intents
        yield self._classes(paths, pictures, menu)

    def _intents(self, paths: Sequence[Path], pictures: Any, menu: Menu) -> Composed:
        said: dict[str, list[str]] = {}
        for row in (*self.rows("banking77"), *self.rows("clinc150_small")):
            said.setdefault(row["label"], []).append(row["text"])
        labels = [label for label, texts in said.items() if len(texts) > 3 and label != "oos"]
        picked = [labels[at % len(labels)] for at in range(len(paths))]
        firsts = [said[label][0] for label in picked]
        wanted = [
            Wanted(
                path.name, path, said[label][1:8], [at], [text for text in firsts if text != said[label][0]]
            )
            for at, (path, label) in enumerate(zip(paths, picked, strict=True))
        ]
        return self._composed("open/intents", wanted, [pictures, self._eyes.space.embed_texts(firsts)], menu)

    def _classes(self, paths: Sequence[Path], pictures: Any, menu: Menu) -> Composed:
        names = class_names()
        best = np.argsort(-self._eyes.classes(paths, "open-gallery"), axis=1)[:, :3]
        captions = [", ".join(names[at] for at in (row[0], row[2], row[1])) for row in best]
        wanted = [
            Wanted(
                path.name,
                path,
                [names[row[0]], f"{names[row[0]]} and {names[row[1]]}", f"a picture of {names[row[1]]}"],
                [at],
                [names[other[0]] for other in best if other[0] != row[0]],
            )
            for at, (path, row) in enumerate(zip(paths, best, strict=True))
        ]
        return self._composed(
            "open/classes", wanted, [pictures, self._eyes.space.embed_texts(captions)], menu
        )

    # --- Speech ---

    def spoken(self) -> Composed:
        """Views of the catalogue pictures and descriptions that were read aloud."""
        pictures = self._eyes.store([self._path(row) for row in self.products], "products")
        about = self._eyes.space.embed_texts([row["text"] for row in self.products])
        return spoken(
            "catalogue/spoken",
            [self._of_product(row, self._path(row), False) for row in self.products],
            [_voiced(at, _sentence(row)) for at, row in enumerate(self.products)],
            [pictures, about],
            Menu(PICTURES, SOUNDS, 6, 3),
            self._eyes,
            self._ears,
        )


def _voiced(at: int, text: str) -> Said:
    return Said(text[:120], list(VOICES)[at % len(VOICES)])


def _sentence(row: Row) -> str:
    return str(row["text"]).split(".")[0]


def class_names() -> list[str]:
    """The names of ImageNet's classes."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    return [info.index_to_description(at).split(",")[0] for at in range(1000)]


def spoken(
    name: str,
    wanted: Sequence[Wanted],
    said: Sequence[Said],
    gallery: Sequence[Any],
    menu: Menu,
    eyes: Eyes,
    ears: Ears | None,
) -> Composed:
    """Queries of a picture and speech, one of them made worse; a recording in which nothing is heard gives none."""
    rows: list[tuple[Wanted, Shot, Said, str, str]] = []
    for one, voice in zip(wanted, said, strict=True):
        clean = Shot(one.picture, one.view)
        rows.append((one, clean, voice, CLEAN, CLEAN))
        rows += [
            (one, clean, replace(voice, kind=kind), "audio", kind) for kind in menu.words[: menu.of_words]
        ]
        kinds = seeded(one.picture.name, "kinds").choice(list(menu.pictures), menu.of_pictures, replace=False)
        rows += [(one, Shot(one.picture, one.view, str(kind)), voice, "image", str(kind)) for kind in kinds]
    assert ears is not None  # noqa: S101 - for the type checker
    heard = ears.listen([voice for _, _, voice, _, _ in rows], name.replace("/", "-"))
    pictures = eyes.look([shot for _, shot, *_ in rows], name.replace("/", "-"))
    kept = [at for at, one in enumerate(heard) if one.text.strip()]
    vectors = eyes.space.embed_texts([heard[at].text for at in kept])
    parts = [
        {"audio": Part(vector, heard[at].signs), "image": pictures[at]}
        for at, vector in zip(kept, vectors, strict=True)
    ]
    about = [(rows[at][0], rows[at][3], rows[at][4]) for at in kept]
    return assembled(name, parts, about, gallery, [heard[at].text for at in kept])


# --- The fit ---------------------------------------------------------------------------------------------


def prepared(composed: Composed) -> tuple[Examples, NDArray[np.str_]]:
    """What the fit needs, and the group of each query."""
    examples = composed.examples(PRIOR)
    usable = examples.right.any(axis=1)
    importance = np.where(composed.damaged == CLEAN, CLEAN_COUNTS, 1.0).astype(np.float32)
    return replace(examples, importance=importance * usable), composed.groups


def joined(examples: Sequence[Examples]) -> Examples:
    names = ("inputs", "prior", "scores", "right", "importance")
    return Examples(*(np.concatenate([getattr(each, name) for each in examples]) for name in names))


def trained(sets: Sequence[Composed], settings: Settings, leave_out: frozenset[str] = frozenset()) -> Network:
    """A network fitted to these sets, without the kinds of damage in ``leave_out``."""
    kept = []
    for composed in sets:
        examples, groups = prepared(composed)
        rows = ~np.isin(composed.kinds, list(leave_out))
        kept.append((examples.take(rows), groups[rows]))
    examples = joined([each for each, _ in kept])
    groups = np.concatenate([each for _, each in kept])
    held = np.array([seeded(group, "held").integers(HELD_SHARE) == 0 for group in groups])
    start = fit_gate.fresh(examples.inputs, settings.seed)
    return fit_gate.fit(start, examples.take(~held), examples.take(held), settings)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m ml.alignment.train_gate", description=__doc__)
    parser.add_argument("data", type=Path, help="the folder of the sets")
    parser.add_argument("--out", type=Path, default=gating.SHIPPED)
    parser.add_argument("--cache", type=Path, required=True, help="where what was seen and heard is kept")
    given = parser.parse_args(arguments)
    sets = list(sources(given.data, given.cache).all())
    network = trained(sets, Settings())
    told = {composed.name: len(composed.parts) for composed in sets}
    gating.write_gate(given.out, network, {"id": GATE_ID, "version": VERSION, "queries": told})


def sources(data: Path, cache: Path) -> Sources:
    """With everything that sees and hears."""
    from ml.encoders.whisper_tiny_en import Transcriber
    from ml.media import Decoder

    ears = Ears(Decoder(), Transcriber(), cache)
    return Sources(data, Eyes(JointSpace.load(), cache), ears)


if __name__ == "__main__":
    main()
