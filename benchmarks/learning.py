"""Learning, measured part by part (`make bench-learning`).

The learnt space against the traditional methods, the gate against fixed weights, small models against their teachers,
Chinese against English, classifiers from words and examples, and what the training pipeline itself costs. Groups never
cross splits; differences are paired by bootstrap over pictures. `PARTS=align,gate` runs some of it.

Sets come from ../shared/data (or CROSSLIGHT_DATA); where one is absent its lines say so.
Writes var/bench/learning.json.
"""

from __future__ import annotations

from _parts import run_parts

PARTS = {
    "align": "Alignment: the default space, adapted spaces and the traditional methods",
    "gate": "Weights of modalities: the gate against the best fixed weights",
    "small": "Small and fast: INT8, pruned and distilled models",
    "chinese": "Chinese and English",
    "classifiers": "Classifiers of a workspace: from words, and from 5, 20 and 100 examples",
    "engine": "The training pipeline",
}

TOYS = ("classifiers", "engine")


def main() -> int:
    return run_parts("learning", PARTS, lambda part: part.run(), TOYS)


if __name__ == "__main__":
    raise SystemExit(main())
