"""The student and how it learns: embeddings of n-grams and two layers, towards MiniLM's vectors of the translations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ml.encoders._chinese import SMALLEST

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Settings:
    """What training was run with; it stands in the manifest."""

    dimension: int = 256
    hidden: int = 512
    epochs: int = 6
    batch: int = 512
    embedding_rate: float = 2e-2
    layer_rate: float = 1e-3
    contrast: float = 0.3  #: weight of InfoNCE beside the cosine
    temperature: float = 0.05
    same: float = 0.9  #: translations as alike as this are no negatives of each other
    seed: int = 0


@dataclass(frozen=True)
class Lessons:
    """Texts as rows of n-grams, one after the other, with the vector [384] each should have."""

    grams: NDArray[np.int64]  #: [m]
    starts: NDArray[np.int64]  #: [n + 1]
    targets: Floats  #: [n, 384], norm 1
    shares: NDArray[np.float64]  #: [n], how often each is drawn; sums to 1

    def __len__(self) -> int:
        return len(self.targets)

    def bags(self, index: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """The n-grams of these texts and where each text's begin, as EmbeddingBag wants them."""
        parts = [self.grams[self.starts[one] : self.starts[one + 1]] for one in index]
        sizes = np.array([len(part) for part in parts])
        offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        return torch.from_numpy(np.concatenate(parts)), torch.from_numpy(offsets)


class Network(nn.Module):
    """What ``ml.encoders._chinese.Student.read`` computes; the last row is for texts of which nothing is known."""

    def __init__(self, grams: int, settings: Settings) -> None:
        super().__init__()
        size = settings.dimension
        self.rows = nn.EmbeddingBag(grams + 1, size, mode="sum", sparse=True)
        nn.init.normal_(self.rows.weight, std=0.05)
        self.inner = nn.Linear(size, settings.hidden)
        self.outer = nn.Linear(settings.hidden, 384)
        self.direct = nn.Linear(size, 384, bias=False)

    def forward(self, grams: Tensor, offsets: Tensor) -> Tensor:
        """Bags of n-grams to unit vectors [n, 384]."""
        summed = self.rows(grams, offsets)
        level = summed / (summed.pow(2).mean(1, keepdim=True).sqrt() + SMALLEST)
        vectors = self.direct(level) + self.outer(torch.relu(self.inner(level)))
        return functional.normalize(vectors, dim=1)

    def layers(self) -> dict[str, Floats]:
        """The matrices as ``packing.pack`` wants them: inputs by outputs."""
        named = {
            "inner": self.inner.weight.T,
            "bias": self.inner.bias,
            "outer": self.outer.weight.T,
            "direct": self.direct.weight.T,
            "shift": self.outer.bias,
        }
        return {name: tensor.detach().numpy() for name, tensor in named.items()}


def train(
    lessons: Lessons, grams: int, settings: Settings, report: Callable[[dict[str, Any]], None]
) -> Network:
    """A student after ``settings.epochs``; equal arguments give equal students on one thread."""
    torch.manual_seed(settings.seed)
    network = Network(grams, settings)
    optimisers = _optimisers(network, settings)
    steps = max(1, settings.epochs * len(lessons) // settings.batch)
    loss = float("nan")
    for step, index in enumerate(_draws(lessons, steps, settings)):
        _pace(optimisers, step / steps, step)
        loss = _step(network, optimisers, lessons, index, settings)
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss of step {step} is not finite")
        if (step + 1) % 100 == 0:
            report({"event": "progress", "step": step + 1, "steps": steps, "loss": round(loss, 4)})
    return network.eval()


def losses(said: Tensor, wanted: Tensor, settings: Settings) -> Tensor:
    """Distance by cosine plus InfoNCE (van den Oord et al. 2018, arXiv:1807.03748) over the batch, both [n, 384]."""
    itself = torch.eye(len(said), dtype=torch.bool)
    alike = (wanted @ wanted.T > settings.same) & ~itself
    logits = (said @ wanted.T / settings.temperature).masked_fill(alike, -1e4)
    contrast = functional.cross_entropy(logits, torch.arange(len(said)))
    return 1 - (said * wanted).sum(1).mean() + settings.contrast * contrast


def _optimisers(network: Network, settings: Settings) -> list[torch.optim.Optimizer]:
    layers = [p for name, p in network.named_parameters() if not name.startswith("rows")]
    return [
        torch.optim.SparseAdam([network.rows.weight], lr=settings.embedding_rate),
        torch.optim.AdamW(layers, lr=settings.layer_rate, weight_decay=1e-3),
    ]


def _draws(lessons: Lessons, steps: int, settings: Settings) -> Iterator[NDArray[np.int64]]:
    random = np.random.default_rng(settings.seed)
    for _ in range(steps):
        yield random.choice(len(lessons), settings.batch, p=lessons.shares)


def _pace(optimisers: Sequence[torch.optim.Optimizer], done: float, step: int) -> None:
    """A short warm-up, then half a cosine down to a fiftieth."""
    pace = min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = pace * group.setdefault("initial_lr", group["lr"])


def _step(
    network: Network,
    optimisers: Sequence[torch.optim.Optimizer],
    lessons: Lessons,
    index: NDArray[np.int64],
    settings: Settings,
) -> float:
    said = network(*lessons.bags(index))
    loss = losses(said, torch.from_numpy(lessons.targets[index]), settings)
    for optimiser in optimisers:
        optimiser.zero_grad()
    loss.backward()
    for optimiser in optimisers:
        optimiser.step()
    return loss.item()
