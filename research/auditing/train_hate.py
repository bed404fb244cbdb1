"""Train the heads that tell hate by what a text means: ``python -m research.auditing.train_hate --data DIR``.

Logistic regression over frozen sentence vectors, one head for each language: English over MiniLM and
multilingual-e5-small, Chinese over multilingual-e5-small, which also learns from the English sentences. Calibrated and
measured on folds that keep together what belongs together (`hate_data.Sentence.group`). Nothing is chosen by the frozen
cases, which only decide whether a language is said to be examined at all. Needs scikit-learn and the prepared encoders;
some minutes of one core for the vectors, which ``--cache`` keeps.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.auditing import calibration
from ml.auditing.text_meaning import ENCODERS, FOLDER, MANIFEST
from research.auditing import chinese_abuse
from research.auditing.hate_data import (
    NAMED,
    FrozenCase,
    Sentence,
    frozen_cases,
    frozen_digest,
    sentences,
)
from research.auditing.hate_heads import (
    FOLDS,
    Bools,
    Cache,
    Floats,
    Vectors,
    best_threshold,
    digest_number,
    fit,
    fold_of,
    macro_f1,
)

log = logging.getLogger(__name__)

#: A language is `examined` from this macro-F1 on its frozen cases on.
EXAMINED_FROM = 0.65
SOURCES = ("hatemoji", "toxigen", "contrast", "davidson", "cold", "everyday")
#: What a sentence of each source weighs. COLD's label is of all that offends, and its sentences are many.
WEIGHTS = {"hatemoji": 1.0, "toxigen": 2.0, "contrast": 2.0, "davidson": 0.5, "everyday": 1.0}
WEIGHTS_CHINESE = {"contrast": 4.0, "cold": 0.3, "everyday": 1.0}
#: What a sentence of English counts of its weight where Chinese is learnt.
FROM_ENGLISH = 0.3
#: What a calibration is fitted to: sentences as people post them, and contrast pairs.
CALIBRATED_ON = {
    "en": ("hatemoji", "toxigen", "contrast", "everyday"),
    "zh": ("cold", "contrast", "everyday"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="the folder with hatemoji_build, cold_zh and others"
    )
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--cache", type=Path, help="a file that keeps the sentences' vectors")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    learnt = sentences(arguments.data)
    vectors = Cache(arguments.cache)
    arguments.out.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, NDArray[Any]] = {}
    heads: dict[str, Any] = {}
    for language in ENCODERS:
        weights, bias, entry = train(learnt, vectors, language)
        name = f"{language}/hate"
        arrays |= {f"{name}/weights": weights, f"{name}/bias": np.array([bias], np.float32)}
        heads[name] = entry
        log.info("%s: %s", name, {key: value for key, value in entry.items() if key != "calibration"})
    fused, entry = chinese_abuse.train(
        arguments.data,
        [each for each in learnt if each.source == "contrast" and each.language == "zh"],
        vectors,
    )
    arrays |= {"zh/abuse/weights": fused.weights, "zh/abuse/bias": np.array([fused.bias], np.float32)}
    heads["zh/abuse"] = entry | {"words": fused.words, "examined": True}
    log.info("zh/abuse: %s", {key: value for key, value in entry.items() if key != "calibration"})
    save(arguments.out, arrays, heads)


def train(learnt: Sequence[Sentence], vectors: Cache, language: str) -> tuple[Vectors, float, dict[str, Any]]:
    """A language's weights float32 [d] and bias, and its entry in the manifest, with what was measured."""
    chosen = [each for each in learnt if language in (each.language, "zh")]
    values = vectors.of([each.text for each in chosen], ENCODERS[language])
    labels = np.array([each.hate for each in chosen])
    weights = np.array([_weight(each, language) for each in chosen])
    folds = np.array([fold_of(each) for each in chosen])
    held_out = np.zeros(len(chosen))
    for fold in range(FOLDS):
        inside = folds == fold
        found = fit(values[~inside], labels[~inside], weights[~inside])
        held_out[inside] = values[inside] @ found[0] + found[1]
    own = np.array([each.language == language for each in chosen])
    mine = [each for each, is_own in zip(chosen, own, strict=True) if is_own]
    entry = calibrated(mine, held_out[own], language) | {"words": 0.0}
    final = fit(values, labels, weights)
    return *final, entry | judged(final, vectors, language, entry)


def _weight(sentence: Sentence, language: str) -> float:
    if language == "zh" == sentence.language:
        return WEIGHTS_CHINESE[sentence.source]
    return WEIGHTS[sentence.source] * (1.0 if sentence.language == language else FROM_ENGLISH)


def calibrated(own: Sequence[Sentence], logits: Floats, language: str) -> dict[str, Any]:
    """The calibration and the threshold of held-out logits, and figures by source."""
    labels = np.array([each.hate for each in own])
    used = np.array([each.source in CALIBRATED_ON[language] and _is_drawn(each) for each in own])
    groups = [each.group for each, is_used in zip(own, used, strict=True) if is_used]
    found = calibration.fit(logits[used], labels[used], groups=groups, note=f"hate-1 {language}")
    claimed = np.array([found.probability(float(logit)) for logit in logits])
    named = np.array([each.source == "contrast" and each.function in NAMED for each in own])
    threshold = best_threshold(claimed[used], labels[used], claimed[named])
    return {
        "calibration": asdict(found),
        "threshold": threshold,
        "sentences": {name: int(sum(each.source == name for each in own)) for name in SOURCES},
        "held out": {
            "calibration error": round(
                calibration.expected_calibration_error(claimed[used], labels[used]), 4
            ),
            "false alarms, group named": f"{int((claimed[named] >= threshold).sum())}/{int(named.sum())}",
            **_by_source(own, claimed, labels, threshold),
        },
    }


def _is_drawn(sentence: Sentence) -> bool:
    """Of COLD one in seven: its subjects would drown what people say of others."""
    return sentence.source != "cold" or digest_number(sentence.text) % 7 == 0


def _by_source(
    own: Sequence[Sentence], claimed: Floats, labels: Bools, threshold: float
) -> dict[str, dict[str, float]]:
    from sklearn.metrics import roc_auc_score

    figures = {}
    for name in SOURCES:
        inside = np.array([each.source == name for each in own])
        if len(set(labels[inside])) == 2:
            figures[name] = {
                "macro-F1": round(macro_f1(labels[inside], claimed[inside] >= threshold), 4),
                "AUC": round(float(roc_auc_score(labels[inside], claimed[inside])), 4),
            }
        elif inside.any():
            figures[name] = {"false alarms": round(float(np.mean(claimed[inside] >= threshold)), 4)}
    return figures


def judged(
    head: tuple[Vectors, float], vectors: Cache, language: str, entry: Mapping[str, Any]
) -> dict[str, Any]:
    """What the frozen cases say, and whether the language is examined."""
    cases = frozen_cases(language)
    logits = vectors.of([case.text for case in cases], ENCODERS[language]) @ head[0] + head[1]
    found = calibration.Calibration.loads(json.dumps(entry["calibration"]))
    flagged = np.array([found.probability(float(logit)) >= entry["threshold"] for logit in logits])
    labels = np.array([case.hate for case in cases])
    score = macro_f1(labels, flagged)
    return {
        "examined": score >= EXAMINED_FROM,
        "frozen": {
            "sha256": frozen_digest(language),
            "cases": len(cases),
            "macro-F1": round(score, 4),
            "right": by_function(cases, flagged == labels),
        },
    }


def by_function(cases: Sequence[FrozenCase], right: Bools) -> dict[str, str]:
    """Cases judged rightly of each function, such as ``12/14``."""
    names = np.array([case.function for case in cases])
    return {
        name: f"{int(right[names == name].sum())}/{int((names == name).sum())}"
        for name in dict.fromkeys(case.function for case in cases)
    }


def save(folder: Path, arrays: Mapping[str, NDArray[Any]], heads: Mapping[str, Any]) -> None:
    from safetensors.numpy import save as to_bytes

    content = to_bytes(dict(arrays))
    (folder / "heads.safetensors").write_bytes(content)
    manifest = {
        "file": "heads.safetensors",
        "sha256": hashlib.sha256(content).hexdigest(),
        "encoders": {language: list(names) for language, names in ENCODERS.items()},
        "heads": dict(heads),
    }
    text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
