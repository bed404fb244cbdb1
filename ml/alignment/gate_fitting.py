"""Fitting a gate to queries whose right answers are known. Only what fits loads torch, not this module.

The loss is the one that search cares about: the softmax over an index's vectors of the weighted sum of the parts'
scores, of which the right ones should have most (InfoNCE, van den Oord et al. 2018, with several positives). Early
stopping on a part of the groups; seeds give equal results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ml.alignment.gating import INPUTS, LIMIT, PARTS, Network

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]

HIDDEN = 24
#: What is learnt of a network; its other arrays standardise the inputs.
LEARNT = ("inner", "inner_bias", "outer", "outer_bias")
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


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def loss_of(network: Network, examples: Examples, settings: Settings) -> float:
    """The mean over the queries, by their importance."""
    import torch

    with torch.no_grad():
        return float(_loss(_tensors(network), network, examples, settings))


def fit(
    start: Network,
    train: Examples,
    held: Examples,
    settings: Settings,
    each: Callable[[int], None] = lambda epoch: None,
) -> Network:
    """The network that does best on ``held``, found from ``start`` on ``train``. Calls ``each`` before each epoch."""
    import torch

    threads = torch.get_num_threads()
    # Arrays of a few kilobytes: threads would wait for each other more than they work.
    torch.set_num_threads(1)
    try:
        return _fitted(start, train, held, settings, each)
    finally:
        torch.set_num_threads(threads)


def _fitted(
    start: Network, train: Examples, held: Examples, settings: Settings, each: Callable[[int], None]
) -> Network:
    import torch

    random = np.random.default_rng(settings.seed)
    origin, learnt = _tensors(start), _tensors(start)
    adam = torch.optim.Adam([values.requires_grad_() for values in learnt.values()], settings.rate)
    best, lowest, since = start, loss_of(start, held, settings), 0
    for epoch in range(settings.epochs):
        each(epoch)
        for rows in _batches(len(train), settings.batch, random):
            batch = _varied(train.take(rows), settings, random)
            drift = torch.stack([(learnt[name] - origin[name]).square().sum() for name in LEARNT]).sum()
            adam.zero_grad()
            (_loss(learnt, start, batch, settings) + settings.decay / 2 * drift).backward()
            adam.step()
        network = replace(start, **{name: values.detach().numpy().copy() for name, values in learnt.items()})
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


# --- The loss --------------------------------------------------------------------------------------------


def _tensors(network: Network) -> dict[str, torch.Tensor]:
    import torch

    return {name: torch.tensor(getattr(network, name)) for name in LEARNT}


def _loss(
    learnt: dict[str, torch.Tensor], network: Network, examples: Examples, settings: Settings
) -> torch.Tensor:
    """Of ``network`` with these arrays in the place of its own, as ``weights_of`` and ``combined`` have it. A query
    without a right candidate has nothing to say."""
    import torch

    some = examples.take(np.flatnonzero(examples.right.any(axis=1)))
    features, prior, scores = (
        torch.from_numpy(values) for values in (network.features(some.inputs), some.prior, some.scores)
    )
    hidden = torch.tanh(features @ learnt["inner"] + learnt["inner_bias"])
    corrections = LIMIT * torch.tanh((hidden @ learnt["outer"] + learnt["outer_bias"]) / LIMIT)
    logits = (prior.clamp_min(1e-9).log() + corrections).masked_fill(prior <= 0, -torch.inf)
    found = torch.einsum("np,npc->nc", logits.softmax(dim=1), scores) / settings.temperature
    right = found.masked_fill(~torch.from_numpy(some.right), -torch.inf)
    losses = found.logsumexp(dim=1) - right.logsumexp(dim=1)
    return (losses * torch.from_numpy(some.importance)).sum() / float(examples.importance.sum())
