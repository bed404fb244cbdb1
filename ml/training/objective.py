"""What can be learnt. The loop knows nothing about it: adapting, distilling and the rest are objectives.

A new one is a new file in ``ml/training/objectives`` with a function ``load(recipe: Recipe) -> Objective``. A method
other than the plain one is a file of its own: ``align`` with ``method: lora`` is ``align_lora.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from ml.catalog import Catalog, UnknownPlugin
from ml.training.plan import TrainingError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from ml.training.plan import Data
    from ml.training.quality import ItemSignature

CATALOG = Catalog("ml.training.objectives")

#: ``adapt`` is the whole of a run with stage adapt; a run with stage full has two phases, general and then domain.
Phase = Literal["adapt", "general", "domain"]
PHASES: dict[str, tuple[Phase, ...]] = {"adapt": ("adapt",), "full": ("general", "domain")}


@dataclass(frozen=True)
class Recipe:
    """What one run was asked to do. ``base`` is the folder of the space (or model) to start from, None the default."""

    objective: str = "align"
    stage: str = "adapt"
    method: str = "heads"
    base: Path | None = None
    epochs: int = 20
    batch: int = 128
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)  #: the objective's own, checked by it


class Item(Protocol):
    """The least that the engine has to know of a training example; ``ml.training.shards.Pair`` is one."""

    @property
    def key(self) -> str: ...
    @property
    def group(self) -> str: ...  # never on both sides of a split
    @property
    def split(self) -> str: ...  # train, val, test, or empty: then by the group's hash


class Objective(ABC):
    """One run's model and what it is trained for. Used by one thread, except for ``collate``.

    The engine calls, in this order: ``prepare`` once; at the start of each phase ``parameter_groups``; each epoch
    ``begin_epoch``, then for each batch ``collate`` (in a thread beside) and ``loss``, then ``validate``; at the end
    ``validate`` again and ``export``, both with the best weights loaded. After an interruption ``prepare`` runs again
    and the saved weights are loaded over it, so it must be deterministic for a recipe and its data.
    """

    #: Fewer distinct training pairs than this are refused as too few.
    least_pairs: ClassVar[int] = 16
    #: Items that the shuffle holds at once, and below which a split is kept in memory.
    buffer: ClassVar[int] = 4_096
    #: True where the items are feature shards: raw sources are then encoded before anything else.
    features: ClassVar[bool] = True
    #: False where ``prepare`` solves everything: a phase is then one ``validate``, no epoch and no step.
    gradients: ClassVar[bool] = True
    #: Everything trainable and every constant that must be in a checkpoint; set by ``prepare``.
    module: Any  # a torch.nn.Module, whose own attributes its stubs do not know

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.device = "cpu"
        #: What each phase learns from and is judged by; set by the engine before ``prepare``.
        self.data: Mapping[Phase, Data] = {}

    def items(self, urls: Sequence[str]) -> Iterable[Any]:
        """The examples behind ``urls`` as a stream that can be started again; by default the pairs of feature shards.

        Raises TrainingError(``unreadable``).
        """
        from ml.training.shards import read_pairs

        return read_pairs(urls)

    def look(self, item: Any) -> ItemSignature:
        """What the quality report compares of an item; by default of a pair of a feature shard."""
        from ml.training.quality import pair_signature

        return pair_signature(item)

    @abstractmethod
    def prepare(self, train: Iterable[Any], device: str) -> None:
        """Set ``module`` (on ``device``) to where training starts: base weights, or a solution in closed form.

        ``train`` is a stream over the training items in a fixed order, which may be run through several times; a
        solution in closed form sums what it needs on the way and keeps no rows. In a run with several processes each
        one prepares for itself and must come to the same.
        """

    @abstractmethod
    def parameter_groups(self, phase: Phase) -> list[dict[str, Any]]:
        """Groups for torch.optim.AdamW: ``params``, ``lr``, perhaps ``weight_decay``. What is in no group is frozen.

        The engine multiplies ``lr`` by a warm-up and a cosine, clips gradients at norm 1, and sets requires_grad.
        """

    def begin_epoch(self, train: Iterable[Any], phase: Phase, epoch: int, epochs: int) -> None:  # noqa: B027
        """Before each epoch (0, 1, …): mine negatives, move along a schedule. Need not be overridden.

        Must depend on nothing but the arguments and the module's weights. A run that resumes in the middle of an
        epoch calls it with the weights of the epoch's start, and loads those of the middle afterwards.
        """

    def collate(self, items: Sequence[Any], rng: np.random.Generator) -> Any:
        """Items to a batch of CPU tensors (a dict, list or tensor, which the engine moves to the device).

        All chance (which caption, which modality is left out) comes from ``rng``, which is set by the position in
        the run, so that a resumed run draws the same. Several captions make several positives: keep them all.
        """
        return list(items)

    @abstractmethod
    def loss(self, batch: Any) -> tuple[torch.Tensor, dict[str, float]]:
        """The batch's mean loss (a scalar with a graph), and figures for the curve (temperature, accuracy, …).

        Negatives of the other processes come from ``ml.training.distributed.gather`` (a no-op in a run with one): the
        loss is then the mean over this process's rows against all columns, and the engine averages the gradients.
        """

    @abstractmethod
    def validate(self, items: Iterable[Any]) -> dict[str, float]:
        """Figures on held-out items, ``primary`` among them (more is better): it stops early and picks the epoch."""

    @abstractmethod
    def export(self, folder: Path, manifest_extra: Mapping[str, Any]) -> Path:
        """Write what was learnt (safetensors, ONNX, a manifest with digests) into the new ``folder`` and return it."""

    def calibrate(self, folder: Path, data: Data) -> dict[str, Any]:
        """Let what was exported to ``folder`` say how likely its matches are right, and tell what is known of that.

        By default the base's curves are carried over by the last phase's pairs (``ml.training.relevance``). An
        objective that exports something else than a space overrides it.
        """
        from ml.training.relevance import carry_relevance

        return carry_relevance(folder, self.recipe.base, data.test, data.train)

    def evaluate(
        self, folder: Path, train: Iterable[Any], tests: Mapping[str, Iterable[Any]]
    ) -> dict[str, Any]:
        """Figures for the report, on items that nothing was chosen by: of what was exported to ``folder`` by test set.

        By default of a space beside its parent and the traditional methods fitted on the same training pairs; an
        objective that exports something else overrides it.
        """
        from ml.training.evaluate import evaluate_space

        return evaluate_space(folder, self.recipe.base, train, tests)


def load_objective(recipe: Recipe) -> Objective:
    """The objective that a recipe names. Raises TrainingError(``unknown_objective``)."""
    name = recipe.objective if recipe.method == "heads" else f"{recipe.objective}-{recipe.method}"
    try:
        module = CATALOG.load(name)
    except UnknownPlugin as error:
        raise TrainingError("unknown_objective", str(error)) from error
    made = module.load(recipe)
    if not isinstance(made, Objective):
        raise TypeError(f"{name!r} is a {type(made).__name__}, no Objective")
    return made
