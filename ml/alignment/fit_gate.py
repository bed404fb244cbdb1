"""Fitting a gate to queries whose right answers are known: gradients by hand, so that NumPy is all it needs.

The loss is the one that search cares about: the softmax over an index's vectors of the weighted sum of the parts'
scores, of which the right ones should have most (InfoNCE, van den Oord et al. 2018, with several positives). Adam
(Kingma and Ba 2015); early stopping on a part of the groups; seeds give equal results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ml.alignment.gating import INPUTS, LIMIT, PARTS, Network

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Gradients = dict[str, Floats]

HIDDEN = 24
#: What stands for no candidate.
NOTHING = -9.0


@dataclass(frozen=True)
class Examples:
    """Queries with their candidates, padded to the same number of them.

    ``inputs`` [n, i] as measured; ``prior`` [n, p], 0 for a part that is not there; ``scores`` [n, p, c], NOTHING where
    there is no candidate; ``right`` [n, c]; ``importance`` [n].
    """

    inputs: Floats
    prior: Floats
    scores: Floats
    right: Flags
    importance: Floats

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, rows: NDArray[np.intp] | Flags) -> Examples:
        return Examples(
            self.inputs[rows], self.prior[rows], self.scores[rows], self.right[rows], self.importance[rows]
        )


@dataclass(frozen=True)
class Settings:
    """``temperature`` of the softmax over candidates; ``decay`` pulls towards where the fit began; ``forget`` is how
    often a part's signs are left out, ``wobble`` how much agreement is stretched: other spaces have other cosines."""

    epochs: int = 60
    batch: int = 256
    rate: float = 3e-3
    temperature: float = 0.04
    decay: float = 1e-3
    forget: float = 0.1
    wobble: float = 0.15
    patience: int = 10
    seed: int = 0


def fresh(inputs: Floats, seed: int = 0, hidden: int = HIDDEN) -> Network:
    """A network that leaves every prior as it is; inputs are standardised by those given."""
    random = np.random.default_rng(seed)
    mean, deviation = _usual(inputs)
    scale = np.where(deviation > 1e-4, 1 / np.maximum(deviation, 1e-4), 0.0)
    width = 2 * len(INPUTS)
    inner = random.normal(0, 1 / np.sqrt(width), (width, hidden))
    zeros = np.zeros((hidden, len(PARTS)), np.float32)
    return Network(
        mean.astype(np.float32),
        scale.astype(np.float32),
        inner.astype(np.float32),
        np.zeros(hidden, np.float32),
        zeros,
        np.zeros(len(PARTS), np.float32),
    )


def _usual(inputs: Floats) -> tuple[Floats, Floats]:
    """Mean and deviation of what is known of each input; 0 where nothing is."""
    known = ~np.isnan(inputs)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, inputs, 0.0).sum(axis=0) / count
    return mean, np.sqrt(np.where(known, (inputs - mean) ** 2, 0.0).sum(axis=0) / count)


def weights_of(network: Network, examples: Examples) -> Floats:
    """The weights [n, p] of every query's parts, rows summing to 1."""
    logits = np.log(np.maximum(examples.prior, 1e-9)) + network.corrections(examples.inputs)
    return _softmax(np.where(examples.prior > 0, logits, -np.inf))


def combined(weights: Floats, examples: Examples) -> Floats:
    """Scores [n, c] of the candidates under these weights [n, p]."""
    return np.einsum("np,npc->nc", weights, examples.scores)


def loss_of(network: Network, examples: Examples, settings: Settings) -> float:
    total = examples.importance.sum()
    return float(
        (_losses(weights_of(network, examples), examples, settings)[0] * examples.importance).sum() / total
    )


def fit(
    start: Network,
    train: Examples,
    held: Examples,
    settings: Settings,
    each: Callable[[int], None] = lambda epoch: None,
) -> Network:
    """The network that does best on ``held``, found from ``start`` on ``train``. Calls ``each`` before each epoch."""
    random = np.random.default_rng(settings.seed)
    network = best = start
    lowest, since, adam = loss_of(start, held, settings), 0, _Adam(settings.rate)
    for epoch in range(settings.epochs):
        each(epoch)
        for rows in _batches(len(train), settings.batch, random):
            batch = _varied(train.take(rows), settings, random)
            network = adam.step(network, _gradients(network, start, batch, settings))
        found = loss_of(network, held, settings)
        since = 0 if found < lowest else since + 1
        if found < lowest:
            lowest, best = found, network
        if since >= settings.patience:
            break
    return best


def _batches(count: int, size: int, random: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    order = random.permutation(count)
    yield from (order[start : start + size] for start in range(0, count, size))


# --- Variety ---------------------------------------------------------------------------------------------

_SIGNS_OF = {part: [n for n, name in enumerate(INPUTS) if name.startswith(f"{part}_")] for part in PARTS}
AGREEMENTS = [n for n, name in enumerate(INPUTS) if name.startswith("agree_")]


def _varied(batch: Examples, settings: Settings, random: np.random.Generator) -> Examples:
    """As if stored assets stood for some parts, whose signs nobody knows, and as if spaces differed."""
    inputs = batch.inputs.copy()
    for columns in _SIGNS_OF.values():
        forgotten = np.flatnonzero(random.random(len(batch)) < settings.forget)
        inputs[forgotten[:, None], columns] = np.nan
    stretch = random.normal(1, settings.wobble, (len(batch), 1))
    shift = random.normal(0, settings.wobble / 5, (len(batch), 1))
    inputs[:, AGREEMENTS] = inputs[:, AGREEMENTS] * stretch + shift
    return replace(batch, inputs=inputs.astype(np.float32))


# --- Gradients -------------------------------------------------------------------------------------------


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _losses(weights: Floats, examples: Examples, settings: Settings) -> tuple[Floats, Floats]:
    """The loss of each query [n], and its gradient by the weights [n, p]."""
    logits = combined(weights, examples) / settings.temperature
    everything = _softmax(logits)
    right = np.where(examples.right, everything, 0.0)
    share = np.maximum(right.sum(axis=1, keepdims=True), 1e-12)
    by_score = (everything - right / share) / settings.temperature
    return -np.log(share[:, 0]), np.einsum("nc,npc->np", by_score, examples.scores)


def _gradients(network: Network, start: Network, batch: Examples, settings: Settings) -> Gradients:
    inputs = network.features(batch.inputs)
    hidden = np.tanh(inputs @ network.inner + network.inner_bias)
    bent = np.tanh((hidden @ network.outer + network.outer_bias) / LIMIT)
    logits = np.log(np.maximum(batch.prior, 1e-9)) + LIMIT * bent
    weights = _softmax(np.where(batch.prior > 0, logits, -np.inf))
    by_weight = _losses(weights, batch, settings)[1]
    by_logit = weights * (by_weight - (weights * by_weight).sum(axis=1, keepdims=True))
    by_output = by_logit * (1 - bent**2) * (batch.importance / batch.importance.sum())[:, None]
    by_hidden = by_output @ network.outer.T * (1 - hidden**2)
    found = {
        "inner": inputs.T @ by_hidden,
        "inner_bias": by_hidden.sum(axis=0),
        "outer": hidden.T @ by_output,
        "outer_bias": by_output.sum(axis=0),
    }
    return {
        name: slope + settings.decay * (getattr(network, name) - getattr(start, name))
        for name, slope in found.items()
    }


class _Adam:
    def __init__(self, rate: float) -> None:
        self._rate, self._steps = rate, 0
        self._first: dict[str, Floats] = {}
        self._second: dict[str, Floats] = {}

    def step(self, network: Network, gradients: Gradients) -> Network:
        self._steps += 1
        return replace(
            network, **{name: self._moved(name, network, slope) for name, slope in gradients.items()}
        )

    def _moved(self, name: str, network: Network, slope: Floats) -> Floats:
        first = 0.9 * self._first.get(name, 0.0) + 0.1 * slope
        second = 0.999 * self._second.get(name, 0.0) + 0.001 * slope**2
        self._first[name], self._second[name] = first, second
        scaled = first / (1 - 0.9**self._steps) / (np.sqrt(second / (1 - 0.999**self._steps)) + 1e-8)
        moved: Floats = (getattr(network, name) - self._rate * scaled).astype(np.float32)
        return moved
