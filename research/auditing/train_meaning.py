"""Train what tells abuse, hate, insults, threats and sexual remarks by meaning:
``python -m research.auditing.train_meaning --data DIR``.

For each language a network of one hidden layer over frozen sentence vectors (`ml.auditing.text_meaning`), one output a
category; a sentence teaches the outputs that its source says something of. English reads MiniLM and
multilingual-e5-small, Chinese multilingual-e5-small, and learns from the English sentences too. Calibrated and measured
on folds that keep together what belongs together (`hate_data.Example.group`). Nothing is chosen by the frozen cases,
which only decide whether a category is said to be examined at all. Needs scikit-learn, torch and the prepared encoders;
some quarter of an hour of two cores, most of it for the vectors, which ``--cache`` keeps.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.auditing import calibration
from ml.auditing.text_meaning import ENCODERS, FOLDER, MANIFEST, encode, outputs, readings
from ml.auditing.text_models import Head
from research.auditing import abuse_data
from research.auditing.hate_data import (
    CATEGORIES,
    FROZEN,
    FROZEN_ATTRIBUTES,
    FROZEN_GROUPS,
    HARMLESS,
    AttributeCase,
    Example,
    FrozenCase,
    attribute_cases,
    digest,
    examples,
    frozen_cases,
    group_cases,
)

log = logging.getLogger(__name__)

#: A category of a language is `examined` from this macro-F1 on its frozen cases on.
EXAMINED_FROM = 0.65
#: Share of each kind of harmless held-out sentences that may reach a threshold (`HARMLESS`, everyday questions).
MOST_ALARMS = 0.03
FOLDS = 5
#: What a sentence of each source weighs: the two large sets would drown the others, and label what offends in posts
#: that were found by slurs or by subject.
WEIGHTS = {
    "templates": 1.0,
    "contrast": 2.0,
    "hatemoji": 1.0,
    "toxigen": 2.0,
    "everyday": 1.0,
    "davidson": 1.0,
    "cold": 0.3,
}
#: What a sentence of English counts of its weight where Chinese is learnt.
FROM_ENGLISH = 0.3
#: Of the large sets one in so many calibrates: they would drown what else people say.
DRAWN = {"davidson": 7, "cold": 7}
HIDDEN, DROPOUT, INNER_DROPOUT, DECAY, EPOCHS, BATCH, RATE = 256, 0.3, 0.3, 0.02, 25, 256, 2e-3

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Vectors = NDArray[np.float32]
Layers = dict[str, Vectors]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="the folder with hatemoji_build, cold_zh and others"
    )
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--cache", type=Path, help="a file that keeps the sentences' vectors")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    learnt, vectors = examples(arguments.data), Cache(arguments.cache)
    arguments.out.mkdir(parents=True, exist_ok=True)
    models = {}
    for language in ENCODERS:
        layers, entry = train(learnt, vectors, language, arguments.data)
        models[language] = _saved(arguments.out, language, layers) | entry
    text = json.dumps({"models": models}, indent=1, sort_keys=True, ensure_ascii=False)
    (arguments.out / MANIFEST).write_text(text + "\n", "utf-8")


def train(
    learnt: Sequence[Example], vectors: Cache, language: str, data: Path
) -> tuple[Layers, dict[str, Any]]:
    """A language's layers, and its entry in the manifest, with what was measured."""
    given = Given.of(learnt, vectors, language)
    everything = np.ones(len(given.values), bool)
    held_out = np.zeros((len(given.values), len(CATEGORIES)))
    for fold in range(FOLDS):
        inside = given.folds == fold
        held_out[inside] = outputs(given.values[inside], **given.fit(~inside))
    final = given.fit(everything)
    heads = {
        name: _measured(given, held_out[:, at], given.labels[:, at], f"{language}/{name}")
        for at, name in enumerate(CATEGORIES)
    }
    for at, name in enumerate(CATEGORIES):
        heads[name] |= _judged(final, at, name, vectors, language, heads[name])
        log.info(
            "%s/%s: %s",
            language,
            name,
            {key: value for key, value in heads[name].items() if key != "calibration"},
        )
    entry = {"encoders": list(ENCODERS[language]), "outputs": list(CATEGORIES), "heads": heads}
    entry |= _on_labelled(given, final, heads["abuse"], vectors, language, data)
    log.info("%s: %s", language, {key: entry[key] for key in entry if key not in ("heads", "encoders")})
    return final, entry


@dataclass(frozen=True)
class Given:
    """What a language is learnt from: ``values`` float32 [n, d], ``labels`` [n, categories] with NaN where nothing is
    said, ``weights`` and ``folds`` [n], ``own``: of the language itself."""

    learnt: Sequence[Example]
    values: Vectors
    labels: Vectors
    weights: Vectors
    folds: NDArray[np.int64]
    own: Bools

    @classmethod
    def of(cls, learnt: Sequence[Example], vectors: Cache, language: str) -> Given:
        chosen = [each for each in learnt if each.language == language or _teaches_chinese(each, language)]
        own = np.array([each.language == language for each in chosen])
        labels = [[float(each.labels.get(name, np.nan)) for name in CATEGORIES] for each in chosen]
        weights = np.array([WEIGHTS[each.source] for each in chosen]) * np.where(own, 1.0, FROM_ENGLISH)
        return cls(
            chosen,
            vectors.of([each.text for each in chosen], ENCODERS[language]),
            np.array(labels, np.float32),
            weights.astype(np.float32),
            np.array([digest_number(each.group) % FOLDS for each in chosen]),
            own,
        )

    def fit(self, chosen: Bools) -> Layers:
        return fit(self.values[chosen], self.labels[chosen], self.weights[chosen])


def _teaches_chinese(each: Example, language: str) -> bool:
    """Tweets do not: there are as many Chinese comments."""
    return language == "zh" and each.source != "davidson"


# --- The network -------------------------------------------------------------------------------------------


def fit(values: Vectors, labels: Vectors, weights: Vectors) -> Layers:
    """The layers of a network that was trained from a fixed seed; the vectors' mean and scale are folded in.

    ``values`` [n, d], ``labels`` [n, k] with NaN where nothing is said, ``weights`` [n].
    """
    import torch
    from torch import nn

    torch.manual_seed(0)
    mean, scale = values.mean(0), float(values.std(0).mean())
    network = nn.Sequential(
        nn.Dropout(DROPOUT),
        nn.Linear(values.shape[1], HIDDEN),
        nn.ReLU(),
        nn.Dropout(INNER_DROPOUT),
        nn.Linear(HIDDEN, labels.shape[1]),
    )
    inputs, said = torch.tensor((values - mean) / scale), torch.tensor(np.nan_to_num(labels))
    counted = torch.tensor(~np.isnan(labels) * weights[:, None])
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    batches = len(values) // BATCH + 1
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * batches)
    chance = np.random.default_rng(0)
    for _ in range(EPOCHS):
        for rows in np.array_split(chance.permutation(len(values)), batches):
            optimizer.zero_grad()
            loss = nn.functional.binary_cross_entropy_with_logits(
                network(inputs[rows]), said[rows], counted[rows]
            )
            loss.backward()
            optimizer.step()
            schedule.step()
    state = {name: value.numpy().T.copy() for name, value in network.state_dict().items()}
    hidden = state["1.weight"] / scale
    layers = {
        "hidden": hidden,
        "hidden_bias": state["1.bias"] - mean @ hidden,
        "out": state["4.weight"],
        "out_bias": state["4.bias"],
    }
    # As they are stored, so that what is measured is what ships.
    return {name: value.astype(np.float16).astype(np.float32) for name, value in layers.items()}


# --- Figures -----------------------------------------------------------------------------------------------


def _measured(given: Given, logits: Floats, labels: Vectors, note: str) -> dict[str, Any]:
    """The calibration and the threshold of held-out logits, and figures by source."""
    said = given.own & ~np.isnan(labels)
    own = [each for each, is_said in zip(given.learnt, said, strict=True) if is_said]
    logits, truth = logits[said], labels[said] > 0
    used = np.array([digest_number(each.text) % DRAWN.get(each.source, 1) == 0 for each in own])
    groups = [each.group for each, is_used in zip(own, used, strict=True) if is_used]
    found = calibration.fit(logits[used], truth[used], groups=groups, note=f"{FOLDER.name} {note}")
    claimed = probabilities(found, logits)
    sources = np.array([each.source for each in own])
    kinds = np.array([each.harmless for each in own])
    alike = {kind: kinds == kind for kind in (*dict.fromkeys(HARMLESS.values()), "everyday")}
    threshold = best_threshold(claimed[used], truth[used], [claimed[one] for one in alike.values()])
    alarms = {
        name: f"{int((claimed[one] >= threshold).sum())}/{int(one.sum())}" for name, one in alike.items()
    }
    return {
        "calibration": asdict(found),
        "threshold": threshold,
        "sentences": {name: int((sources == name).sum()) for name in WEIGHTS if (sources == name).any()},
        "held out": {
            "calibration error": round(calibration.expected_calibration_error(claimed[used], truth[used]), 4),
            "false alarms": alarms,
            **_by_source(sources, claimed, truth, threshold),
        },
    }


def _by_source(
    sources: NDArray[np.str_], claimed: Floats, truth: Bools, threshold: float
) -> dict[str, dict[str, float]]:
    """Macro-F1 and AUC of each source with both classes."""
    from sklearn.metrics import roc_auc_score

    figures = {}
    for name in WEIGHTS:
        inside = sources == name
        if len(set(truth[inside])) == 2:
            figures[name] = {
                "macro-F1": round(macro_f1(truth[inside], claimed[inside] >= threshold), 4),
                "AUC": round(float(roc_auc_score(truth[inside], claimed[inside])), 4),
            }
    return figures


def _judged(
    layers: Layers, at: int, name: str, vectors: Cache, language: str, entry: Mapping[str, Any]
) -> dict[str, Any]:
    """What the frozen cases say, and whether the category is examined."""
    head = Head.read(name, entry)

    def of(cases: Sequence[FrozenCase | AttributeCase], truth: Sequence[bool], digest: str) -> dict[str, Any]:
        logits = outputs(vectors.of([case.text for case in cases], ENCODERS[language]), **layers)[:, at]
        flagged, labels = probabilities(head.calibration, logits) >= head.threshold, np.array(truth)
        return {
            "sha256": digest,
            "cases": len(cases),
            "positive": int(labels.sum()),
            "macro-F1": round(macro_f1(labels, flagged), 4),
            "right": by_function(cases, flagged == labels),
        }

    figures, named = {}, {}
    if name in ("hate", "abuse"):
        hateful = frozen_cases(language)
        truth = [case.hate if name == "hate" else case.abuse for case in hateful]
        figures["frozen"] = of(hateful, truth, digest(FROZEN, language))
        groups = group_cases(language)
        named["frozen groups"] = of(groups, [case.hate for case in groups], digest(FROZEN_GROUPS, language))
    if name != "hate":
        cases = attribute_cases(language)
        truth = [case.labels[name] for case in cases]
        figures["frozen attributes"] = of(cases, truth, digest(FROZEN_ATTRIBUTES, language))
    examined = min(each["macro-F1"] for each in figures.values()) >= EXAMINED_FROM
    return {"examined": examined, **figures, **named}


def _on_labelled(
    given: Given, layers: Layers, entry: Mapping[str, Any], vectors: Cache, language: str, data: Path
) -> dict[str, Any]:
    """Abuse on the test split of davidson_hate or cold_zh, and on topics that a network did not learn from."""
    texts = abuse_data.load(data, language)
    truth, topics = texts.labels[:, 0], np.array(texts.topics)
    head = Head.read("abuse", entry)
    values = vectors.of(list(texts.raw), ENCODERS[language])

    def claimed(layers: Layers, chosen: Bools) -> Floats:
        return probabilities(
            head.calibration, outputs(values[chosen], **layers)[:, CATEGORIES.index("abuse")]
        )

    test = texts.split(0) == "test"
    seen = claimed(layers, test)
    figures: dict[str, Any] = {
        "test": {
            "texts": int(test.sum()),
            "macro-F1": round(macro_f1(truth[test], seen >= head.threshold), 4),
            "calibration error": round(calibration.expected_calibration_error(seen, truth[test]), 4),
        }
    }
    apart = {}
    for topic in sorted(set(texts.topics) - {""}):
        left_out = np.array([each.topic == topic for each in given.learnt])
        seen = claimed(given.fit(~left_out), topics == topic)
        apart[topic] = round(macro_f1(truth[topics == topic], seen >= head.threshold), 4)
    return figures | ({"topic held out": apart} if apart else {})


def by_function(cases: Sequence[FrozenCase | AttributeCase], right: Bools) -> dict[str, str]:
    """Cases judged rightly of each function, such as ``12/14``."""
    names = np.array([case.function for case in cases])
    return {
        name: f"{int(right[names == name].sum())}/{int((names == name).sum())}"
        for name in dict.fromkeys(case.function for case in cases)
    }


def probabilities(found: calibration.Calibration, logits: Floats | Vectors) -> Floats:
    return np.array([found.probability(float(logit)) for logit in logits])


def digest_number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "replace")).digest()[:4], "big")


def best_threshold(claimed: Floats, labels: Bools, harmless: Sequence[Floats]) -> float:
    """The probability of the best macro-F1, in steps of .01, that at most ``MOST_ALARMS`` of each set reach."""
    steps = np.round(np.arange(0.05, 0.96, 0.01), 2)
    allowed = [step for step in steps if all(np.mean(one >= step) <= MOST_ALARMS for one in harmless)]
    return float(max(allowed or [steps[-1]], key=lambda step: macro_f1(labels, claimed >= step)))


def macro_f1(labels: Bools, flagged: Bools) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(labels, flagged, average="macro"))


# --- Files -------------------------------------------------------------------------------------------------


class Cache:
    """Vectors of readings, kept in a file where one is named."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, dict[str, Vectors]] = {}
        if path and path.is_file():
            with np.load(path, allow_pickle=False) as stored:
                for name in ("minilm", "e5"):
                    texts, vectors = stored[f"{name}.texts"], stored[f"{name}.vectors"]
                    self._known[name] = dict(zip(map(str, texts), vectors, strict=True))

    def of(self, texts: Sequence[str], encoders: Sequence[str]) -> Vectors:
        """float32 [n, d] of the plain readings of texts, one encoder's vectors after the other."""
        read = [readings(text)[0] for text in texts]
        return np.concatenate([self._of(read, name) for name in encoders], axis=1).astype(np.float32)

    def _of(self, read: Sequence[str], name: str) -> Vectors:
        known = self._known.setdefault(name, {})
        missing = sorted({text for text in read if text not in known})
        for at in range(0, len(missing), 64):
            part = missing[at : at + 64]
            known.update(zip(part, encode(part, (name,)).astype(np.float16), strict=True))
        if missing and self._path:
            self._write(self._path)
        return np.stack([known[text] for text in read])

    def _write(self, path: Path) -> None:
        stored: dict[str, Any] = {}
        for name in ("minilm", "e5"):
            known = self._known.get(name, {})
            stored[f"{name}.texts"] = np.array(list(known))
            stored[f"{name}.vectors"] = np.stack(list(known.values())) if known else np.zeros((0, 384))
        np.savez(path, **stored)


def _saved(folder: Path, language: str, layers: Layers) -> dict[str, Any]:
    from safetensors.numpy import save

    content = save({name: value.astype(np.float16) for name, value in layers.items()})
    (folder / f"{language}.safetensors").write_bytes(content)
    return {"file": f"{language}.safetensors", "sha256": hashlib.sha256(content).hexdigest()}


if __name__ == "__main__":
    main()
