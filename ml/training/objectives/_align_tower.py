"""``align`` from a space on a picture tower: a corrected reading of texts and heads beside it, in closed form.

Nothing is trained by gradients: what pairs teach is solved (``ml.alignment.adapted_fitting``), folds of the training
pairs tell whether it serves, and the held-out pairs how much of it is kept: all, half, or nothing, which is the base.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ml.alignment import adapted_fitting as fitting
from ml.alignment.adapted_space import AdaptedSpace
from ml.alignment.scenes import scenes
from ml.alignment.space import JointSpace
from ml.alignment.storage import write_space
from ml.alignment.tower_space import TowerSpace
from ml.training.evaluate import pairs_of, shortened
from ml.training.objective import Objective, Phase, Recipe
from ml.training.plan import TrainingError
from ml.training.shards import Pair

if TYPE_CHECKING:
    import torch

#: Pictures that the closed form sees, and that validation asks for.
MOST_FITTED, MOST_JUDGED = 4_096, 1_000
#: Captions of everyday scenes that tell which texts are not those of the pairs.
GENERAL = 500
#: How much of what was learnt may be kept; of equals the first.
MIXES = (1.0, 0.5, 0.0)
#: Keys of unusable pairs that an error names.
NAMED = 5


class AlignTower(Objective):
    """Exports a space of kind ``adapted``, or the base under the new name where held-out pairs find more with it."""

    gradients: ClassVar[bool] = False

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        if recipe.options:
            raise TrainingError(
                "bad_request",
                f"align from a tower has no option {min(recipe.options)!r}: nothing is trained.",
            )

    def prepare(self, train: Iterable[Pair], device: str) -> None:
        import torch

        self.device = device
        self.base = JointSpace.load(self.recipe.base)
        self.tower = tower_of(self.base)
        # General pairs and the domain's are solved together, the domain's first where there are more than fit.
        parts: list[Iterable[Pair]] = [one.train for one in self.data.values()]
        self._sample = self._usable(islice(chain(*(parts[::-1] or [train])), MOST_FITTED))
        self._general = self.base.read(scenes(GENERAL)).vectors
        known = fitting.known_of(self.tower, pairs_of(self._sample))
        self._choice = fitting.choose(self.tower, known, self.recipe.seed, self._general)
        self.start = self._solved(known)
        self.module = torch.nn.Module()
        self.module.register_buffer("mix", torch.tensor(MIXES[0]))

    def parameter_groups(self, phase: Phase) -> list[dict[str, Any]]:
        return []

    def loss(self, batch: Any) -> tuple[torch.Tensor, dict[str, float]]:
        raise NotImplementedError("nothing is trained by gradients")

    def validate(self, items: Iterable[Pair]) -> dict[str, float]:
        known = fitting.known_of(self.tower, pairs_of(self._usable(islice(items, MOST_JUDGED))))
        found = {mix: fitting.hits(fitting.scaled(self.start, mix), known) for mix in MIXES}
        best = max(MIXES, key=lambda mix: found[mix].mean())
        self.module.mix.fill_(best)
        return {
            "primary": float(found[best].mean()),
            "r1": float(found[best][0]),
            "base": float(found[0.0].mean()),
            "mix": best,
        }

    def export(self, folder: Path, manifest_extra: Mapping[str, Any]) -> Path:
        """All is chosen: the closed form again, now with the pairs that chose."""
        held = [self._usable(islice(one.val, MOST_JUDGED)) for one in self.data.values()][-1:]
        known = fitting.known_of(self.tower, pairs_of(list(chain(self._sample, *held))))
        space = fitting.scaled(self._solved(known), float(self.module.mix))
        adapted = isinstance(space, AdaptedSpace)
        learnt = {"mix": float(self.module.mix), "correction": self._choice.correction}
        manifest = {
            "kind": "adapted" if adapted else "tower",
            "id": "cman",
            "version": "1",
            "dimension": space.dimension,
            "encoders": self.base.manifest["encoders"],
            "base": described_base(self.base.manifest),
            "weights": {**learnt, "learnt": space.weight if isinstance(space, AdaptedSpace) else 0.0},
            **manifest_extra,
        }
        kept = {name: self.base.manifest[name] for name in CARRIED if name in self.base.manifest}
        write_space(folder, space.arrays(), kept | manifest)
        return folder

    def _solved(self, known: fitting.Known) -> AdaptedSpace | TowerSpace:
        return fitting.solved(self.tower, known, self._choice, self.recipe.seed, self._general)

    def _usable(self, pairs: Iterable[Pair]) -> list[Pair]:
        """Raises TrainingError for features of other encoders than the tower's, and for numbers that are none."""
        held = [shortened(pair) for pair in pairs]
        wanted = self.tower.texts.width, len(self.tower.axes)
        for pair in held:
            if not self._fits(pair):
                found = pair.text.shape[1], len(pair.features)
                detail = f"{pair.key}: texts and pictures of {found} numbers; the base reads {wanted}."
                raise TrainingError("other_encoders", detail)
        if broken := [pair.key for pair in held if not _is_finite(pair)]:
            names = ", ".join(broken[:NAMED]) + (", …" if len(broken) > NAMED else "")
            detail = f"{len(broken)} pairs have features that are no numbers ({names}): encode them anew."
            raise TrainingError("not_finite", detail)
        return held

    def _fits(self, pair: Pair) -> bool:
        """Whether the encoders of the base read and saw it."""
        more = len(pair.features) - len(self.tower.axes)
        # Behind the tower's features stand those of the networks that name classes.
        seen = more > 0 and len(pair.probabilities) > 0 if self.tower.classes else more == 0
        return seen and pair.text.shape[1] == self.tower.texts.width


#: What the base's manifest says of its own making, which stays true of what is adapted.
CARRIED = ("classes", "stored_hub", "near_duplicate", "languages", "sentences", "settings", "colour_words")


def described_base(manifest: Mapping[str, Any]) -> dict[str, str]:
    """The space on a tower that ``manifest`` is of, or was adapted from."""
    if "base" in manifest:
        return dict(manifest["base"])
    return {name: manifest[name] for name in ("id", "version", "sha256")}


def tower_of(space: JointSpace) -> TowerSpace:
    """What is adapted. Of a space that was adapted before its base: what it learnt is learnt anew.

    Raises TrainingError(``bad_request``) for a space on no tower.
    """
    placing = space.placing
    if isinstance(placing, AdaptedSpace):
        return placing.base
    if isinstance(placing, TowerSpace):
        return placing
    raise TrainingError("bad_request", "This objective starts from a space on a picture tower.")


def _is_finite(pair: Pair) -> bool:
    parts: Sequence[Any] = (pair.text, pair.text_colours, pair.features, pair.colours)
    return all(bool(np.isfinite(part).all()) for part in parts)
