"""Chinese beside English: pictures by their names in both, sentences, and what must not change (space prior:2).

Part of `make bench-learning`; alone: `python benchmarks/_learning_chinese.py`. Pictures come from
`python benchmarks/_learning_emoji_data.py`, sets from ../shared/data; what is absent is said.
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from _data import DATA, OUT, Array, rows_of
from _learning_chinese_names import PRODUCTS
from _learning_chinese_sentences import pairs
from _learning_emoji_data import EMOJI, STYLES, concepts
from _measures import CUTS, RESAMPLES, Table, ranks, recall, recall_of_ranks
from _report import Line, at_least, at_most

from ml.alignment.space import SHIPPED, JointSpace
from ml.encoders.base import Encoder, load_encoder
from ml.media import Decoder
from research.chinese.emoji import Concept, read_concepts

CHINESE_SPACE = SHIPPED.parent / "prior-2"
EMOJIBASE = EMOJI / "npm" / "emojibase-data-17-0-0" / "package"
BATCH = 8
#: Of the Chinese test: names nobody taught it, as a part of what English reaches.
SHARE_OF_ENGLISH = 80.0
MILLISECONDS = 2.0


class Bench:
    """Both spaces; their pictures are the same, so they are seen once and kept on disk."""

    def __init__(self) -> None:
        self.english, self.chinese = JointSpace.load(SHIPPED), JointSpace.load(CHINESE_SPACE)
        self.decoder = Decoder()

    def pictures(self, paths: list[Path]) -> Array:
        """[n, 256]."""
        names = "\n".join(map(str, [*self.english.manifest["encoders"]["image"], *paths]))
        kept = OUT / "chinese" / f"pictures-{hashlib.sha256(names.encode()).hexdigest()[:16]}.npy"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.save(
                kept,
                np.concatenate([self._see(paths[at : at + BATCH]) for at in range(0, len(paths), BATCH)]),
            )
        return np.load(kept)

    def _see(self, paths: list[Path]) -> Array:
        pixels = [self.decoder.image(path, thumbnail=False).pixels for path in paths]
        return self.english.embed_images(pixels)


def run() -> list[Line]:
    bench = Bench()
    return [
        *emoji(bench),
        *products(bench),
        *translations(bench),
        *sentences(bench),
        *unchanged(bench),
        *cost(bench),
    ]


def emoji(bench: Bench) -> list[Line]:
    """Pictures of concepts whose labels, and those of their kind, were in no training text."""
    drawn = concepts()
    if drawn is None:
        return [Line("Chinese labels on emoji pictures, R@10 of English", "no emoji pictures")]
    held_out = {one.hexcode: one for one in read_concepts(EMOJIBASE) if one.split == "test"}
    rows = [row for row in drawn if row["id"] in held_out]
    known = [held_out[row["id"]] for row in rows]
    seen = {style: bench.pictures([EMOJI / row["pictures"][style] for row in rows]) for style in STYLES}
    table = Table(
        f"Emoji pictures by name: {len(rows)} concepts of kinds that were held out, {len(STYLES)} styles"
    )
    groups = np.tile(np.arange(len(rows)), len(STYLES))
    found = {name: _emoji_ranks(queries, seen) for name, queries in _emoji_queries(bench, known).items()}
    for name, each in found.items():
        table.add(name, recall_of_ranks(each, len(rows), groups))
    _labels_to_labels(bench, known)
    share, low, high = _ratio(found["Chinese"] < CUTS[-1], found["English"] < CUTS[-1], groups)
    print(f"  R@10 of Chinese is {share:.1f} % of English (95 %: {low:.1f} to {high:.1f})")
    return [at_least("Chinese labels on emoji pictures, R@10 of English", share, SHARE_OF_ENGLISH, "%")]


def _emoji_queries(bench: Bench, known: list[Concept]) -> dict[str, Array]:
    return {
        "English": bench.english.embed_texts([one.english for one in known]),
        "Chinese": bench.chinese.embed_texts([one.chinese for one in known]),
        "Chinese, traditional": bench.chinese.embed_texts([one.traditional for one in known]),
        "Chinese, read by the English tower": bench.english.embed_texts([one.chinese for one in known]),
    }


def _emoji_ranks(queries: Array, seen: dict[str, Array]) -> Array:
    """Styles one after the other, each a pool of its own."""
    own = [[number] for number in range(len(queries))]
    return np.concatenate([ranks(queries @ pictures.T, own) for pictures in seen.values()])


def _labels_to_labels(bench: Bench, known: list[Concept]) -> None:
    table = Table("The same names, Chinese to English, without pictures")
    own = [[number] for number in range(len(known))]
    chinese, english = ([getattr(one, language) for one in known] for language in ("chinese", "english"))
    towers = [load_encoder(space.manifest["encoders"]["text"]) for space in (bench.chinese, bench.english)]
    table.add("towers, 384 dimensions", recall(towers[0].encode(chinese) @ towers[1].encode(english).T, own))
    texts = bench.english.embed_texts(english)
    table.add("in the space", recall(bench.chinese.embed_texts(chinese) @ texts.T, own))


def _ratio(part: Array, whole: Array, groups: Array) -> tuple[float, float, float]:
    """Hits of one as a percentage of the other's, with a bootstrap interval over ``groups``."""
    parts, wholes = (np.bincount(groups, hits) for hits in (part, whole))
    picks = np.random.default_rng(0).integers(0, len(parts), (RESAMPLES, len(parts)))
    spread = 100 * parts[picks].sum(axis=1) / wholes[picks].sum(axis=1)
    low, high = np.percentile(spread, [2.5, 97.5])
    return float(100 * parts.sum() / wholes.sum()), float(low), float(high)


def products(bench: Bench) -> list[Line]:
    """Grocery Store's catalogue by names that were written for this."""
    rows = rows_of("grocery_store")
    if rows is None:
        return []
    shelf = [row for row in rows if row["kind"] == "catalogue"]
    pictures = bench.pictures([DATA / "grocery_store" / row["path"] for row in shelf])
    own = [[number] for number in range(len(shelf))]
    kinds = [[n for n, other in enumerate(shelf) if other["coarse"] == row["coarse"]] for row in shelf]
    asked = {
        "English title": bench.english.embed_texts([row["title"] for row in shelf]),
        "Chinese name": bench.chinese.embed_texts([PRODUCTS[row["label"]] for row in shelf]),
    }
    table = Table("Grocery Store: a product's name to its catalogue picture, 81 names written by hand")
    for name, queries in asked.items():
        table.add(name, recall(queries @ pictures.T, own))
        table.add(f"{name}, any of its kind", recall(queries @ pictures.T, kinds))
    return []


def sentences(bench: Bench) -> list[Line]:
    """Chinese questions to Chinese answers: the student's own reading on both sides."""
    rows = rows_of("zh_medical_qa")
    if rows is None:
        return []
    rows = rows[:1000]
    own = [[number] for number in range(len(rows))]
    table = Table("zh_medical_qa: the title of a question to its answer")
    for name, space in (("Chinese space", bench.chinese), ("English space", bench.english)):
        asked, answers = (space.embed_texts([row[key] for row in rows]) for key in ("title", "answer"))
        table.add(name, recall(asked @ answers.T, own))
    return []


def translations(bench: Bench) -> list[Line]:
    """Chinese sentences to their English translations, in the space and before it."""
    known = pairs()
    if known is None:
        return []
    chinese, english = ([pair[side] for pair in known] for side in (0, 1))
    own = [[number] for number in range(len(known))]
    towers = [load_encoder(space.manifest["encoders"]["text"]) for space in (bench.chinese, bench.english)]
    read, wanted = towers[0].encode(chinese), towers[1].encode(english)
    table = Table("Sentences of a course: Chinese to its translation, none of them learnt")
    table.add("towers, 384 dimensions", recall(read @ wanted.T, own))
    asked, there = bench.chinese.embed_texts(chinese), bench.english.embed_texts(english)
    table.add("in the space", recall(asked @ there.T, own))
    table.add("read by the English tower", recall(towers[1].encode(chinese) @ wanted.T, own))
    return []


def unchanged(bench: Bench) -> list[Line]:
    """English must be exactly what it was."""
    texts = [one.english for one in read_concepts(EMOJIBASE)] if EMOJIBASE.is_dir() else []
    for name, key in (("banking77", "text"), ("grocery_store", "title")):
        texts += [row[key] for row in rows_of(name) or [] if row.get(key)][:500]
    same = (bench.english.embed_texts(texts) == bench.chinese.embed_texts(texts)).all(axis=1)
    return [
        at_least(
            f"English texts with bit-identical vectors, of {len(texts):,}", float(100 * same.mean()), 100, "%"
        )
    ]


def cost(bench: Bench) -> list[Line]:
    """CPU of the text tower alone, a query."""
    tower = load_encoder(bench.chinese.manifest["encoders"]["text"])
    queries = {"一只猫": "short", "红色的苹果和绿色的梨在木桌子上，旁边有一杯牛奶": "25 characters"}
    return [
        at_most(f"Chinese tower, a query ({label}), cpu", _cpu_ms(tower, text), MILLISECONDS)
        for text, label in queries.items()
    ]


def _cpu_ms(tower: Encoder, text: str, times: int = 300) -> float:
    tower.encode([text])
    started = time.process_time()
    for _ in range(times):
        tower.encode([text])
    return 1000 * (time.process_time() - started) / times


def main() -> int:
    lines = run()
    print()
    for line in lines:
        print(line.shown())
    figures: list[dict[str, Any]] = [line.__dict__ for line in lines]
    (OUT / "learning-chinese.json").write_text(
        json.dumps(figures, indent=1, ensure_ascii=False) + "\n", "utf-8"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
