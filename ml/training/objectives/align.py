"""A joint space learnt from pairs of picture and text: heads over frozen towers, beside the prior (see models/cman.md).

Training starts from regularised CCA and weights of both parts that were chosen on folds (``ml.alignment.fitting``).
Gradients then move the heads: symmetric InfoNCE (van den Oord et al. 2018, arXiv:1807.03748) with every caption of
a picture as a positive (Khosla et al. 2020, arXiv:2004.11362), and a sigmoid loss on the same scores (Zhai et al.
2023, arXiv:2303.15343). The temperature is learnt and held above a floor that sinks from epoch to epoch. Negatives
are the batch and, from the second epoch on, the wrong pictures that the heads confuse most with each caption.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ml.alignment import fitting
from ml.alignment.fitting import Known
from ml.alignment.learned_space import Heads, LearnedSpace
from ml.alignment.own_tower import carry_tower
from ml.alignment.projection import Projection
from ml.alignment.scenes import scenes
from ml.alignment.space import JointSpace, shared_encoder
from ml.alignment.storage import described_prior, write_space
from ml.training.evaluate import CAPTIONS, image_features_of, pairs_of, shortened, text_features_of
from ml.training.objective import Objective, Phase, Recipe
from ml.training.objectives._align_tower import GENERAL, MOST_FITTED, MOST_JUDGED, AlignTower
from ml.training.plan import TrainingError, hashed
from ml.training.shards import Pair

if TYPE_CHECKING:
    import torch

FIRST_TEMPERATURE, FLOORS = 0.07, (0.07, 0.03)
#: In training the learnt part has at least this share, or it could not be learnt.
LEAST_WEIGHT = 0.06
#: Of the sigmoid loss: most pairs of a batch are no pairs.
FIRST_OFFSET = -12.0
#: Where between the closed form (0) and what gradients made of it (1) the heads may come to lie.
MIXES = (0.0, 0.5, 1.0)
HEADS = ("text_head", "image_head")


@dataclass(frozen=True)
class Options:
    """``sigmoid``: weight of that loss; ``dropout``: how often a pair must do without the prior's part."""

    lr: float = 1e-3
    weight_decay: float = 0.05
    sigmoid: float = 0.05
    dropout: float = 0.2
    hard_negatives: int = 2

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """Raises TrainingError(``bad_request``) for an option that there is not."""
        if unknown := sorted(given.keys() - {one.name for one in fields(cls)}):
            raise TrainingError("bad_request", f"align has no option {unknown[0]!r}")
        return cls(**given)


class Align(Objective):
    """Exports a space of kind ``cman``."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.options = Options.of(recipe.options)
        self.floor = FLOORS[0]
        self._hard: dict[str, list[int]] = {}

    def prepare(self, train: Iterable[Pair], device: str) -> None:
        self.device = device
        self.base = JointSpace.load(self.recipe.base)
        self.prior = _prior_of(self.base)
        self._sample = [shortened(pair) for pair in islice(train, MOST_FITTED)]
        self._held: list[Pair] = []
        self._known = fitting.known_of(self.prior, pairs_of(self._sample))
        self._general = shared_encoder(self.base.manifest["encoders"]["text"]).encode(scenes(GENERAL))
        self._choice = fitting.choose(self.prior, self._known, self.recipe.seed, self._general)
        self.start = self._solved(self._known)
        self._remembered = self._of_prior(self._known)
        self.module = _module(self.start.heads).to(device)

    def _solved(self, known: Known) -> LearnedSpace:
        return fitting.solved(self.prior, known, self._choice, self.recipe.seed, self._general)

    def parameter_groups(self, phase: Phase) -> list[dict[str, Any]]:
        # After general pairs the domain's pairs move the pictures' side alone: words mean what they meant.
        heads = (
            [self.module.image_head] if phase == "domain" else [self.module.text_head, self.module.image_head]
        )
        return [
            {"params": heads, "lr": self.options.lr, "weight_decay": self.options.weight_decay},
            {"params": [self.module.temperature, self.module.offset], "lr": 1e-2, "weight_decay": 0.0},
        ]

    def begin_epoch(self, train: Iterable[Pair], phase: Phase, epoch: int, epochs: int) -> None:
        along = epoch / max(epochs - 1, 1)
        self.floor = FLOORS[0] * (FLOORS[1] / FLOORS[0]) ** along
        self._hard = self._mined() if epoch and self.options.hard_negatives else {}

    def _mined(self) -> dict[str, list[int]]:
        """The wrong pictures of the sample that each picture's captions rank highest, by key."""
        found, _ = fitting.scores(self._space(1.0), self._known)
        owners = self._known.pairs.owners
        found[np.arange(len(owners)), owners] = -np.inf
        first = np.unique(owners, return_index=True)[1]
        count = min(self.options.hard_negatives, found.shape[1] - 1)
        worst = np.argsort(-found[first], axis=1, kind="stable")[:, :count]
        return {pair.key: rows.tolist() for pair, rows in zip(self._sample, worst, strict=True)}

    def collate(self, items: Sequence[Pair], rng: np.random.Generator) -> dict[str, Any]:
        import torch

        mined = sorted({row for item in items for row in self._hard.get(item.key, ())})
        keys = {item.key for item in items}
        more = [self._sample[row] for row in mined if self._sample[row].key not in keys]
        pictures = [*items, *more]
        reading, sight = text_features_of([shortened(item) for item in items]), image_features_of(pictures)
        owners = np.repeat(np.arange(len(items)), [min(len(item.captions), CAPTIONS) for item in items])
        groups = np.array([hashed(item.group) >> 1 for item in pictures], np.int64)
        kept = (rng.random((len(owners), 1)) >= self.options.dropout).astype(np.float32)
        batch = {
            "texts": reading.vectors - self.start.heads.text_mean,
            "pictures": sight.features - self.start.heads.image_mean,
            "prior": self._prior_scores(items, pictures) * kept,
            "text_groups": groups[owners],
            "picture_groups": groups,
        }
        return {name: torch.from_numpy(np.ascontiguousarray(rows)) for name, rows in batch.items()}

    def _prior_scores(self, items: Sequence[Pair], pictures: Sequence[Pair]) -> Any:
        """What the prior's part of the space says of each text and picture: [m, n], not trained."""
        new = list({pair.key: pair for pair in pictures if pair.key not in self._remembered}.values())
        parts = self._remembered
        if new:
            fresh = pairs_of([shortened(pair) for pair in new])
            known = Known(fresh, self.prior.read(fresh.reading), self.prior.class_axes(fresh.sight))
            parts = parts | self._of_prior(known, new)
        asked = np.concatenate([parts[item.key][0] for item in items])
        return asked @ np.stack([parts[picture.key][1] for picture in pictures]).T

    def _of_prior(self, known: Known, pairs: Sequence[Pair] | None = None) -> dict[str, tuple[Any, Any]]:
        """By key: captions [c, shared] and picture [shared] with the prior's part alone."""
        silent = replace(self.start, learnt_weight=0.0)
        asked = silent.asked(known.pairs.reading, known.read).astype(np.float32)
        shown = silent.shown(known.pairs.sight, known.classes).astype(np.float32)
        ends = np.flatnonzero(np.diff(known.pairs.owners)) + 1
        rows = zip(self._sample if pairs is None else pairs, np.split(asked, ends), shown, strict=True)
        return {pair.key: (texts, picture) for pair, texts, picture in rows}

    def loss(self, batch: dict[str, Any]) -> tuple[torch.Tensor, dict[str, float]]:
        import torch

        unit = torch.nn.functional.normalize
        texts = unit(batch["texts"] @ self.module.text_head, dim=-1)
        pictures = unit(batch["pictures"] @ self.module.image_head, dim=-1)
        temperature = self.module.temperature.exp().clamp(min=self.floor)
        scores = (
            max(self.start.learnt_weight, LEAST_WEIGHT) * texts @ pictures.T + batch["prior"]
        ) / temperature
        same = batch["text_groups"][:, None] == batch["picture_groups"][None, :]
        infonce = (_contrast(scores, same) + _contrast(scores.T, same.T)) / 2
        signs = same.float() * 2 - 1
        sigmoid = torch.nn.functional.softplus(-signs * (scores + self.module.offset)).sum(1).mean()
        loss = infonce + self.options.sigmoid * sigmoid
        figures = {
            "temperature": float(temperature.detach()),
            "floor": self.floor,
            "infonce": float(infonce.detach()),
        }
        return loss, figures

    def validate(self, items: Iterable[Pair]) -> dict[str, float]:
        self._held = [shortened(pair) for pair in islice(items, MOST_JUDGED)]
        known = fitting.known_of(self.prior, pairs_of(self._held))
        found = [fitting.hits(self._space(mix), known) for mix in MIXES]
        best = int(np.argmax([recalls.mean() for recalls in found]))
        self.module.mix.fill_(MIXES[best])
        trained = float(found[-1].mean())
        return {
            "primary": float(found[best].mean()),
            "r1": float(found[best][0]),
            "trained": trained,
            "mix": MIXES[best],
        }

    def export(self, folder: Path, manifest_extra: Mapping[str, Any]) -> Path:
        space = self._finished()
        manifest = {
            "kind": "cman",
            "id": "cman",
            "version": "1",
            "dimension": 256,
            "encoders": self.base.manifest["encoders"],
            "prior": described_prior(self.base.manifest),
            "weights": {"prior": space.prior_weight, "learnt": space.learnt_weight},
            **manifest_extra,
        }
        if "colour_words" in self.base.manifest:
            manifest["colour_words"] = self.base.manifest["colour_words"]
        tower = self.base.manifest.get("text_tower")
        write_space(folder, space.arrays(), manifest | ({"text_tower": tower} if tower else {}))
        if tower and self.recipe.base:
            carry_tower(self.recipe.base, tower, folder)
        return folder

    def _finished(self) -> LearnedSpace:
        """All is chosen: the closed form again, now with the pairs that chose, and what gradients changed."""
        known = fitting.known_of(self.prior, pairs_of([*self._sample, *self._held]))
        space, mix = self._solved(known), float(self.module.mix)
        before, turned = self.start.heads, turned_to(space.heads, self.start.heads)
        heads = {
            name: getattr(turned, name) + mix * (self._trained(name) - getattr(before, name))
            for name in HEADS
        }
        space = replace(space, heads=replace(turned, **heads))
        return fitting.weighted(space, known, self._choice.weights, self.recipe.seed)

    def _trained(self, name: str) -> Any:
        return getattr(self.module, name).detach().cpu().numpy()

    def _space(self, mix: float) -> LearnedSpace:
        """The space with heads that lie between the closed form and what was trained."""
        heads = self.start.heads
        mixed = {name: (1 - mix) * getattr(heads, name) + mix * self._trained(name) for name in HEADS}
        space = replace(self.start, heads=replace(heads, **mixed))
        return (
            fitting.weighted(space, self._known, self._choice.weights, self.recipe.seed)
            if mix
            else self.start
        )


def turned_to(heads: Heads, other: Heads) -> Heads:
    """The same heads in axes as near to another's as can be: a common rotation changes no score (Procrustes)."""
    overlaps = [
        getattr(heads, name).T @ getattr(other, name) / np.square(getattr(other, name)).sum()
        for name in HEADS
    ]
    u, _, vt = np.linalg.svd(sum(overlaps))
    return replace(heads, **{name: getattr(heads, name) @ (u @ vt) for name in HEADS})


def load(recipe: Recipe) -> Objective:
    """The objective for one run: from a space on a picture tower nothing is trained by gradients."""
    if stands_on_tower(recipe.base):
        return AlignTower(recipe)
    return Align(recipe)


def stands_on_tower(base: Path | None) -> bool:
    """Whether the space in a folder is mapped to a picture tower, adapted or not; the default where there is none."""
    return JointSpace.load(base).manifest.get("kind") in ("tower", "adapted")


def _module(heads: Heads) -> torch.nn.Module:
    import torch

    module = torch.nn.Module()
    module.text_head = torch.nn.Parameter(torch.from_numpy(heads.text_head.copy()))
    module.image_head = torch.nn.Parameter(torch.from_numpy(heads.image_head.copy()))
    module.temperature = torch.nn.Parameter(torch.tensor(float(np.log(FIRST_TEMPERATURE))))
    module.offset = torch.nn.Parameter(torch.tensor(FIRST_OFFSET))
    module.register_buffer("mix", torch.tensor(0.0))
    return module


def _contrast(scores: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
    """InfoNCE with several positives a row: minus the mean log-probability of them."""
    logs = scores.log_softmax(dim=1)
    kept = same.any(dim=1)
    return -((logs * same).sum(1) / same.sum(1).clamp(min=1))[kept].mean()


def _prior_of(space: JointSpace) -> Projection:
    placing = space.placing
    if isinstance(placing, LearnedSpace):
        return placing.prior
    if isinstance(placing, Projection):
        return placing
    raise TrainingError(
        "bad_request",
        f"A space of kind {space.manifest.get('kind', 'prior')} has no prior to start from; choose another base.",
    )
