"""Trains the gate that ships: ``python -m research.alignment.train_gate DATA --cache FOLDER [--out FOLDER]``.

Only on sets that may be used freely: the grocery shop (MIT: photos, catalogue pictures, descriptions), pictures of
playground_50_50 (MIT) and modern_generators (Apache-2.0, CC BY) with sentences of banking77 (CC BY) and clinc150 (CC
BY) or with the names of what the encoder sees in them, and grocery descriptions that Debian's synthesisers read.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.alignment import gate_fitting, gating
from ml.alignment.gate_fitting import Examples, Settings
from ml.alignment.gating import Network, Part
from ml.alignment.space import JointSpace
from research.alignment.composed_queries import (
    CLEAN,
    CachedImages,
    Composed,
    Floats,
    Menu,
    Shot,
    Wanted,
    by_key,
    compose,
    seeded,
    spoilt,
)
from research.alignment.spoken_queries import VOICES, CachedSpeech, Said, spoken

Row = dict[str, Any]

#: Damage of pictures in two lists, so that the benchmark can keep the gate from seeing the second.
SEEN = ("blur", "noise", "darken", "pixelate")
UNSEEN = ("motion", "specks", "overexpose", "cover", "squeeze")
MOST: Menu = ((SEEN, 2), (UNSEEN, 1))
SOUNDS = ("clip", "shorten", "hiss")
#: How much more a query counts in which nothing is wrong: there is one for several with damage.
CLEAN_COUNTS = 2.0
SET_COUNTS = 1000.0
PRIOR = dict.fromkeys(gating.PARTS, 1 / len(gating.PARTS))
#: One group in so many decides when to stop.
HELD_SHARE = 5
SETTINGS = Settings(decay=1e-2, wobble=0.4)
#: Networks that are averaged into one, and the hidden units of each.
MEMBERS, HIDDEN = 3, 20
SPOKEN = 40


class Sources:
    """The sets, composed. ``data`` is the folder of them; without ``ears`` there is no speech."""

    def __init__(self, data: Path, eyes: CachedImages, ears: CachedSpeech | None = None) -> None:
        self._data, self._eyes, self._ears = data, eyes, ears
        rows = self.rows("grocery_store")
        self.products = [row for row in rows if row["kind"] == "catalogue"]
        self.photos = [row for row in rows if row["kind"] == "photo"]
        self.place = {row["label"]: at for at, row in enumerate(self.products)}
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
            yield self.spoken(self._ears)

    def shots(
        self, name: str, shots: Sequence[Shot], menu: Menu, seed: int
    ) -> dict[str, list[tuple[Shot, Part]]]:
        """Each clean and spoilt, by its key."""
        worse = spoilt(shots, menu, seed)
        clean = self._eyes.look(shots, f"{name}-clean")
        return by_key([*shots, *worse], [*clean, *self._eyes.look(worse, f"{name}-spoilt")])

    # --- The shop ---

    @cached_property
    def _pictures(self) -> Floats:
        return self._eyes.store([self._shot(row) for row in self.products], "products")

    @cached_property
    def _told(self) -> Floats:
        return self._eyes.read([row["text"] for row in self.products], "grocery")

    def grocery(self) -> Iterator[Composed]:
        """Phone photos and names: for catalogue pictures with descriptions, and for other photos."""
        photos = [self._shot(row) for row in self.photos]
        shots = self.shots("grocery", photos, MOST, 1)
        wanted = [self._wanted(row["id"], self.product_of(row), row["label"]) for row in self.photos]
        gallery = [self._pictures, self._told]
        yield compose("grocery/described", wanted, shots, gallery, self._eyes, self.chatter, 17)
        shelf = self._eyes.store(photos, "grocery-clean")
        told = self._told[[self.place[row["label"]] for row in self.photos]]
        yield compose(
            "grocery/shelf", self._on_shelf(wanted), shots, [shelf, told], self._eyes, self.chatter, 20
        )

    def catalogue(self) -> Iterator[Composed]:
        """Other views of the catalogue pictures themselves."""
        shots = self.shots("catalogue", self.views(), (((*SEEN, *UNSEEN), 6),), 6)
        wanted = [self._wanted(f"cat/{row['id']}", row, row["title"]) for row in self.products]
        gallery = [self._pictures, self._told]
        yield compose("catalogue/described", wanted, shots, gallery, self._eyes, self.chatter, 21)

    def views(self) -> list[Shot]:
        return [Shot(f"cat/{row['id']}", self._path(row), view=True) for row in self.products]

    def product_of(self, photo: Row) -> Row:
        return self.products[self.place[photo["label"]]]

    def _shot(self, row: Row) -> Shot:
        return Shot(row["id"], self._path(row))

    def _path(self, row: Row) -> Path:
        return self._data / "grocery_store" / row["path"]

    def _wanted(self, key: str, product: Row, words: str) -> Wanted:
        others = [row for row in self.products if row["coarse"] != product["coarse"]]
        wrong = [said for row in others for said in (row["title"], sentence(row))]
        return Wanted(key, product["coarse"], [words], [self.place[product["label"]]], wrong)

    def _on_shelf(self, wanted: Sequence[Wanted]) -> list[Wanted]:
        labels = np.array([row["label"] for row in self.photos])
        same = [np.flatnonzero(labels == label) for label in labels]
        return [
            replace(one, right=found.tolist(), itself=at)
            for at, (one, found) in enumerate(zip(wanted, same, strict=True))
            if len(found) > 1
        ]

    # --- Pictures without captions ---

    def open(self) -> Iterator[Composed]:
        """With sentences that have nothing to do with them, hence no agreement; and with names of what they show."""
        shown = [
            Shot(f"{name}/{row['id']}", self._data / name / row["path"])
            for name in ("playground_50_50", "modern_generators")
            for row in self.rows(name)
        ]
        views = [replace(shot, view=True) for shot in shown]
        shots = self.shots("open", views, (((*SEEN, *UNSEEN), 4),), 7)
        pictures = self._eyes.store(shown, "open-shown")
        intents, captions = self._intents([shot.key for shot in shown])
        unrelated = compose(
            "open/intents", intents, shots, [pictures, captions], self._eyes, self.chatter, 23
        )
        unrelated.agreement_known = False
        yield unrelated
        named, captions = self._classes(shown)
        yield compose("open/classes", named, shots, [pictures, captions], self._eyes, self.chatter, 24)

    def _intents(self, keys: Sequence[str]) -> tuple[list[Wanted], Floats]:
        said: dict[str, list[str]] = {}
        for row in (*self.rows("banking77"), *self.rows("clinc150_small")):
            said.setdefault(row["label"], []).append(row["text"])
        labels = [label for label, texts in said.items() if len(texts) > 3 and label != "oos"]
        order = np.random.default_rng(5).permutation(len(labels))
        picked = [labels[order[at % len(labels)]] for at in range(len(keys))]
        firsts = [said[label][0] for label in picked]
        wanted = [
            Wanted(key, key, said[label][1:8], [at], [text for text in firsts if text != said[label][0]])
            for at, (key, label) in enumerate(zip(keys, picked, strict=True))
        ]
        return wanted, self._eyes.read(firsts, "open")

    def _classes(self, shown: Sequence[Shot]) -> tuple[list[Wanted], Floats]:
        names = class_names()
        best = np.argsort(-self._eyes.classes(shown, "open-shown"), axis=1)[:, :3]
        captions = [", ".join(names[at] for at in (row[0], row[2], row[1])) for row in best]
        wanted = [
            Wanted(
                shot.key,
                shot.key,
                [names[row[0]], f"{names[row[0]]} and {names[row[1]]}", f"a picture of {names[row[1]]}"],
                [at],
                [names[other[0]] for other in best if other[0] != row[0]],
            )
            for at, (shot, row) in enumerate(zip(shown, best, strict=True))
        ]
        return wanted, self._eyes.read(captions, "open")

    # --- Speech ---

    def spoken(self, ears: CachedSpeech) -> Composed:
        """Views of catalogue pictures and descriptions that were read aloud."""
        shots = self.shots("catalogue", self.views(), (((*SEEN, *UNSEEN), 6),), 6)
        asked = [
            (
                self._wanted(f"cat/{row['id']}", row, row["title"]),
                Said(sentence(row)[:120], list(VOICES)[at % len(VOICES)]),
            )
            for at, row in enumerate(self.products[:SPOKEN])
        ]
        return spoken(
            "catalogue/spoken", asked, shots, SOUNDS, [self._pictures, self._told], self._eyes, ears
        )


def sentence(row: Row) -> str:
    """The first one of a description."""
    return str(row["text"]).split(".")[0]


def class_names() -> list[str]:
    """The names of ImageNet's classes."""
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo()
    return [info.index_to_description(at).split(",")[0] for at in range(1000)]


# --- The fit ---------------------------------------------------------------------------------------------


def prepared(composed: Composed) -> Examples:
    """What the fit needs of a set."""
    examples = composed.examples(PRIOR)
    importance = np.where(composed.damaged == CLEAN, CLEAN_COUNTS, 1.0) * examples.right.any(axis=1)
    # Each set counts the same, however many queries it has: the gate is for others than these.
    return replace(examples, importance=(SET_COUNTS * importance / importance.sum()).astype(np.float32))


def joined(examples: Sequence[Examples]) -> Examples:
    names = ("inputs", "prior", "scores", "right", "importance")
    return Examples(*(np.concatenate([getattr(each, name) for each in examples]) for name in names))


def trained(
    sets: Sequence[tuple[Composed, Examples]],
    leave_out: NDArray[np.str_] | Sequence[str] = (),
    settings: Settings = SETTINGS,
    members: int = MEMBERS,
) -> Network:
    """A network fitted to these sets, without the kinds of damage and the groups in ``leave_out``."""
    kept = [
        ~(np.isin(composed.kinds, leave_out) | np.isin(composed.groups, leave_out)) for composed, _ in sets
    ]
    examples = joined([each.take(rows) for (_, each), rows in zip(sets, kept, strict=True)])
    groups = np.concatenate([composed.groups[rows] for (composed, _), rows in zip(sets, kept, strict=True)])
    held = np.array([seeded(str(group)).integers(HELD_SHARE) == 0 for group in groups])
    return averaged(
        [
            gate_fitting.fit(
                gate_fitting.fresh(examples.inputs, seed, HIDDEN),
                examples.take(~held),
                examples.take(held),
                replace(settings, seed=seed),
            )
            for seed in range(members)
        ]
    )


def averaged(networks: Sequence[Network]) -> Network:
    """One network that says what these say on average (Hansen and Salamon 1990); they standardise alike."""
    first, count = networks[0], len(networks)
    return Network(
        first.mean,
        first.scale,
        np.concatenate([each.inner for each in networks], axis=1),
        np.concatenate([each.inner_bias for each in networks]),
        np.concatenate([each.outer / np.float32(count) for each in networks]),
        np.mean([each.outer_bias for each in networks], axis=0),
    )


def listening(cache: Path) -> CachedSpeech:
    """The bundled recogniser."""
    from ml.encoders.whisper_tiny_en import Transcriber
    from ml.media import Decoder

    return CachedSpeech(Decoder(), Transcriber(), cache)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m research.alignment.train_gate", description=__doc__)
    parser.add_argument("data", type=Path, help="the folder of the sets")
    parser.add_argument("--cache", type=Path, required=True, help="where what was seen and heard is kept")
    parser.add_argument("--out", type=Path, default=gating.SHIPPED)
    given = parser.parse_args(arguments)
    sources = Sources(given.data, CachedImages(JointSpace.load(), given.cache), listening(given.cache))
    sets = [(composed, prepared(composed)) for composed in sources.all()]
    told = {composed.name: len(composed.parts) for composed, _ in sets}
    gating.write_gate(given.out, trained(sets), {"id": "gate", "version": "1", "queries": told})


if __name__ == "__main__":
    main()
