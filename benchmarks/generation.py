"""Generation, measured part by part (`make bench-generation`); `PARTS=pictures,times` runs some of it.

Drawings by a judge of their own and how their settings were chosen, attention at equal budget, which space scores them,
a diffusers checkpoint of true size, what a piece costs, and what is found of the marks after edits. Designs come from
`python -m research.drawing fetch`; where a set is absent its lines say so.
Writes var/bench/generation.json.
"""

from __future__ import annotations

from _parts import run_parts

PARTS = {
    "pictures": "Drawings: do they show what was asked for?",
    "choices": "Drawings: settings, chosen on concepts that neither teach nor test",
    "attention": "Attention: hierarchical, fixed shares and plain, at equal budget",
    "scenes": "Scenes of several things: is each of them found?",
    "scores": "Which space tells what a drawing shows",
    "checkpoint": "A diffusers checkpoint of true size, by one line",
    "times": "What a picture, a clip and music take",
    "marking": "Marked at birth: released, found, and after edits",
    "sound": "The watermark in sound",
}

TOYS = ("sound", "attention", "pictures", "choices", "scenes", "scores", "checkpoint")


def main() -> int:
    return run_parts("generation", PARTS, lambda part: part.run(), TOYS)


if __name__ == "__main__":
    raise SystemExit(main())
