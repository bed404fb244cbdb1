"""Training of the generator: a resumable run in a folder, the same result however often it was interrupted.

Chance depends on the seed and the step alone, and a checkpoint holds weights, their moving average and the optimiser.
SIGTERM ends a run after the step at hand, with a checkpoint.

A step draws a batch of drawings, a phrasing of each and a moment between noise and drawing. The loss is the distance to
the straight way (rectified flow) plus a consistency loss: what a ridge regression reads from the drawing foreseen must
agree with the words that asked for it.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.drawing.conditioning import CONDITION, PROMPT, TEXT
from ml.drawing.network import Shape
from ml.training.checkpoints import Checkpoint, Checkpoints
from research.drawing.examples import Examples
from research.drawing.networks import flow_class

Floats = NDArray[np.float32]
Say = Callable[..., None]


@dataclass(frozen=True)
class Plan:
    """Settings of a run; a checkpoint of other settings is not continued."""

    steps: int = 9_000
    batch: int = 512
    rate: float = 1.5e-3
    warm_up: int = 200
    decay: float = 0.01
    ema: float = 0.999
    #: Noise on the words, against an RMS of 1: without it the network learns the drawings by heart.
    word_noise: float = 0.88
    #: How often words, and apart from them the style, are left out.
    dropped: float = 0.12
    consistency: float = 0.1
    #: How much more moments in the middle are learnt than the ends.
    time_spread: float = 1.0
    seed: int = 0
    save_every: int = 1_000


class Training:
    """One run over ``examples``; ``run`` trains to the end or to SIGTERM, ``weights`` are what it made.

    ``begins``: weights by name that it goes on from, in place of chance.
    """

    def __init__(
        self,
        examples: Examples,
        shape: Shape,
        plan: Plan,
        folder: Path,
        say: Say,
        begins: Mapping[str, Floats] | None = None,
    ) -> None:
        import torch

        torch.manual_seed(plan.seed)
        self.plan, self.shape, self._say, self._stopping = plan, shape, say, False
        self.examples = examples
        self.step = 0
        self.model = flow_class()(shape)
        if begins:
            self.model.load_state_dict({name: torch.from_numpy(value) for name, value in begins.items()})
        multi = torch.optim.swa_utils.get_ema_multi_avg_fn(plan.ema)
        self.average = torch.optim.swa_utils.AveragedModel(self.model, multi_avg_fn=multi)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), plan.rate, weight_decay=plan.decay, fused=True
        )
        self.checkpoints = Checkpoints(folder / "checkpoints", lambda code, text: say("warning", code=code))
        self._latents, self._words = torch.from_numpy(examples.latents), torch.from_numpy(examples.words)
        self._reads = torch.from_numpy(reader(examples))

    def run(self) -> bool:
        """Whether it came to the end; False after SIGTERM."""
        self._resume()
        before = signal.signal(signal.SIGTERM, self._stop)
        try:
            self._steps()
        finally:
            signal.signal(signal.SIGTERM, before)
        self._save()
        return self.step >= self.plan.steps

    @property
    def weights(self) -> dict[str, Floats]:
        """The moving average, by name."""
        return {name: value.numpy().copy() for name, value in self.average.module.state_dict().items()}

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _steps(self) -> None:
        start, losses = time.monotonic(), []
        while self.step < self.plan.steps and not self._stopping:
            losses.append(self._one())
            self.step += 1
            if self.step % 100 == 0:
                took, start = time.monotonic() - start, time.monotonic()
                flow, agreed = np.mean(losses, axis=0)
                losses = []
                self._say("step", step=self.step, flow=flow, consistency=agreed, seconds=took)
            if self.step % self.plan.save_every == 0:
                self._save()

    def _one(self) -> tuple[float, float]:
        import torch

        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        clean, words, wishes, moments, noise = self._batch()
        noisy = moments[:, None] * clean + (1 - moments[:, None]) * noise
        # Weights and sums stay float32; products in bfloat16 take half the time.
        with torch.autocast("cpu", torch.bfloat16):
            velocity = self.model(noisy, moments, wishes).float()
        flow = ((velocity - (clean - noise)) ** 2).mean()
        foreseen = noisy + (1 - moments[:, None]) * velocity
        agreed = 1 - torch.cosine_similarity(foreseen @ self._reads, words, dim=1).mean()
        loss = flow + self.plan.consistency * agreed
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.average.update_parameters(self.model)
        return flow.item(), agreed.item()

    def _rate(self) -> float:
        plan = self.plan
        warm = min(1.0, (self.step + 1) / plan.warm_up)
        return plan.rate * warm * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * self.step / plan.steps)))

    def _batch(self) -> tuple[Any, ...]:
        """Drawings, their words without noise, wishes, moments and noise of this step."""
        import torch

        plan, examples = self.plan, self.examples
        chance = np.random.default_rng((plan.seed, self.step))
        rows = chance.integers(len(examples.latents), size=plan.batch)
        concepts = examples.concepts[rows]
        first, last = examples.starts[concepts], examples.starts[concepts + 1]
        # Every other time the label alone: that is how people ask.
        chosen = np.where(chance.random(plan.batch) < 0.4, first, chance.integers(first, last))
        words = self._words[torch.from_numpy(chosen)]
        wishes = np.zeros((plan.batch, CONDITION), np.float32)
        noise_of_words = chance.normal(scale=plan.word_noise, size=words.shape)
        wishes[:, :PROMPT] = words.numpy() + noise_of_words
        wishes[np.arange(plan.batch), PROMPT + examples.styles[rows]] = 1
        wishes[chance.random(plan.batch) < plan.dropped, :PROMPT] = 0
        wishes[chance.random(plan.batch) < plan.dropped, PROMPT:] = 0
        moments = 1 / (1 + np.exp(-plan.time_spread * chance.normal(size=plan.batch)))
        noise = chance.normal(size=(plan.batch, self.shape.latent))
        clean = self._latents[torch.from_numpy(rows)]
        made = (torch.from_numpy(part.astype(np.float32)) for part in (wishes, moments, noise))
        return clean, words[:, :TEXT], *made

    def _save(self) -> None:
        parts = {"model": self.model.state_dict(), "average": self.average.state_dict()}
        tensors = {f"{part}.{name}": value for part, state in parts.items() for name, value in state.items()}
        for number, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in state.items()}
        self.checkpoints.save(Checkpoint(tensors, {"step": self.step, "run": self._named()}))

    def _resume(self) -> None:
        found = self.checkpoints.latest(lambda state: state["run"] == self._named())
        if found is None:
            return
        parts: dict[str, dict[str, Any]] = {"model": {}, "average": {}, "optimizer": {}}
        for name, value in found.tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = value
        self.model.load_state_dict(parts["model"])
        self.average.load_state_dict(parts["average"])
        state = self.optimizer.state_dict()
        for name, value in parts["optimizer"].items():
            number, _, field = name.partition(".")
            state["state"].setdefault(int(number), {})[field] = value
        self.optimizer.load_state_dict(state)
        self.step = found.state["step"]
        self._say("resumed", step=self.step)

    def _named(self) -> dict[str, Any]:
        shown = {
            "plan": asdict(self.plan),
            "shape": asdict(self.shape),
            "drawings": len(self.examples.latents),
        }
        return shown | {"sum": float(np.abs(self.examples.latents).sum())}


def reader(examples: Examples, ridge: float = 300.0) -> Floats:
    """What reads words from latents: ridge regression [d, TEXT] to the labels' vectors."""
    latents = examples.latents.astype(np.float64)
    words = examples.words[examples.starts[examples.concepts], :TEXT].astype(np.float64)
    square = latents.T @ latents + ridge * np.eye(latents.shape[1])
    return np.linalg.solve(square, latents.T @ (words - words.mean(axis=0))).astype(np.float32)
