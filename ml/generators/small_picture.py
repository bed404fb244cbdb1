"""Pictures by the small drawing model that comes with Crosslight (``ml.drawing``), and scenes composed of them.

The model draws single things on white at 64 pixels, which are enlarged. A prompt that names several known things, or
where they are (``ml.scenes.words``), becomes a scene: each thing is drawn for itself, looked at by the joint space, and
where its drawing is not recognised among other things it is taken from the library of designs instead. ``how`` is then
``layout``, and ``parts`` says of each thing which of the two it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from ml.generators.base import (
    GenerationError,
    GenerationParams,
    Generator,
    Kind,
    Limits,
    Part,
    Pixels,
    RawOutput,
    Step,
    Watch,
)
from ml.scenes import composing
from ml.scenes.library import SETS, LibraryError, design, library
from ml.scenes.words import Named, Reading, read

if TYPE_CHECKING:
    from ml.alignment.space import JointSpace
    from ml.drawing.drawer import Drawer


# --- Upscaling -------------------------------------------------------------------------------------------
# Small drawings made large with clear edges: cubic interpolation, then a shock filter at the size of an old pixel.
#
# A shock filter (Osher and Rudin, 1990) lets the bright side of an edge grow towards it and the dark side, too,
# until they meet; flat colours stay flat. It suits drawings. It adds no detail that was not there.


ROUNDS, SHARE = 3, 0.6


def enlarged(pixels: Pixels, side: int) -> Pixels:
    """uint8 [s, s, 3] to [side, side, 3]."""
    import cv2

    scale = side / pixels.shape[0]
    picture: Any = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    if scale > 1.5:
        # Rounds the staircases of slanted edges, which would be made clear as well.
        picture = cv2.GaussianBlur(picture, (0, 0), 0.4 * scale)
        for _ in range(ROUNDS):
            picture = _clearer(picture, scale)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _clearer(picture: Any, scale: float) -> Any:
    import cv2

    width = max(1, round(scale / 4)) * 2 + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    light = cv2.GaussianBlur(picture @ np.array([0.299, 0.587, 0.114], np.float32), (0, 0), 0.4 * scale)
    bend = cv2.Laplacian(light, cv2.CV_32F, ksize=1)[..., None] * scale**2
    # Where the light hardly bends there is no edge to move.
    share = SHARE * np.clip(np.abs(bend) / 16, 0, 1)
    grown = np.where(bend < 0, cv2.dilate(picture, disc), cv2.erode(picture, disc))
    return picture + share * (grown - picture)


# --- Generator -------------------------------------------------------------------------------------------


WHITE = 255


class SmallPicture(Generator):
    name = "small-picture"
    kind: Kind = "image"
    limits = Limits(max_side=1024, max_steps=100, max_batch=8)

    @property
    def model(self) -> str:  # type: ignore[override]
        return f"Crosslight {_drawer().version}"

    def missing(self) -> str:
        try:
            _drawer()
        except GenerationError as error:
            return error.message
        return ""

    def draw(self, batch: Sequence[GenerationParams], watch: Watch) -> list[RawOutput]:
        groups = [
            list(group) for _, group in groupby(batch, key=lambda params: (params.steps, params.guidance))
        ]
        total, before, raws = sum(group[0].steps for group in groups), 0, list[RawOutput]()
        for group in groups:
            raws += _drawn(group, _counting(watch, before, total))
            before += group[0].steps
        return raws


def load(argument: str) -> SmallPicture:
    return SmallPicture()


def understands(prompt: str) -> bool:
    """Whether it names anything of the library, or a place; a file that is damaged keeps nobody from asking."""
    try:
        return read(prompt).is_known
    except LibraryError:
        return True


@lru_cache(maxsize=1)
def _drawer() -> Drawer:
    from ml.drawing.drawer import Drawer, DrawingError

    try:
        return Drawer.load()
    except DrawingError as error:
        raise GenerationError("not-installed", f"The drawing model cannot be used: {error}") from error


def _counting(watch: Watch, before: int, total: int) -> Watch:
    return lambda step: watch(Step(before + step.done, total, step.preview))


def _drawn(batch: Sequence[GenerationParams], watch: Watch) -> list[RawOutput]:
    """Outputs of equal steps and guidance; all their parts in one batch."""
    scenes = [_scene(params) for params in batch]
    parts = [
        [one.words for one in scene.things for _ in range(TRIES)] if scene else [params.prompt]
        for params, scene in zip(batch, scenes, strict=True)
    ]
    rows = [
        (params, at, part)
        for params, texts in zip(batch, parts, strict=True)
        for at, part in enumerate(texts)
    ]

    def step(done: int, total: int, shown: Pixels | None) -> None:
        watch(Step(done, total, shown[0] if shown is not None else None))

    drawings = _drawer().draw(
        [text for _, _, text in rows],
        seeds=[params.seed + SEED_STEP * at for params, at, _ in rows],
        steps=batch[0].steps,
        guidance=batch[0].guidance,
        negative=[params.negative for params, _, _ in rows],
        watch=step,
    )
    raws, at = list[RawOutput](), 0
    for params, scene, texts in zip(batch, scenes, parts, strict=True):
        own = drawings[at : at + len(texts)]
        at += len(texts)
        raws.append(_composed(scene, own, params) if scene else RawOutput(pixels=_placed(own[0], params)))
    return raws


def _scene(params: GenerationParams) -> Reading | None:
    """What is to be composed; None where the model draws the prompt as a whole.

    One thing alone before nothing is the model's own business, but where ``arrange`` lets it be taken, too.
    """
    try:
        reading = read(params.prompt, params.negative)
    except LibraryError as error:
        raise GenerationError("not-installed", str(error)) from error
    return reading if reading.is_scene or (params.arrange and reading.things) else None


def _placed(drawing: Pixels, params: GenerationParams) -> Pixels:
    """The drawing in the middle of white, as large as it fits."""
    canvas = np.full((params.height, params.width, 3), WHITE, np.uint8)
    side = min(params.width, params.height)
    top, left = (params.height - side) // 2, (params.width - side) // 2
    canvas[top : top + side, left : left + side] = enlarged(drawing, side)
    return canvas


# --- Scenes ----------------------------------------------------------------------------------------------
# Each thing by the model, if what it drew is recognised; by a design of the library, if not.


#: Drawings of a thing that are looked at, and what seeds of these differ by.
TRIES, SEED_STEP = 1, 7_919
#: A drawing is looked at as large as this, and it is recognised if its own name is among the first so many of those of
#: so many things of the library, itself among them.
LOOKED_AT, FIRST, AMONG = 224, 1, 150
#: …and in a whole scene among the first so many. A scene is kept as drawn if the thing that is seen least of all is
#: seen as clearly as where all of them are taken.
FIRST_IN_SCENE = 5


def _composed(scene: Reading, drawings: Pixels, params: GenerationParams) -> RawOutput:
    drawn = drawings.reshape(len(scene.things), TRIES, *drawings.shape[1:])
    try:
        kept = _recognised(scene, drawn)
        if not scene.is_scene and kept[0] is not None:
            # Nothing was put together.
            return RawOutput(pixels=_placed(kept[0], params))
        pixels, parts = _painted(scene, kept, params)
        if any(part.how == "drawn" for part in parts):
            taken = _painted(scene, [None] * len(scene.things), params)
            as_drawn, as_taken = _leads(scene, [pixels, taken[0]])
            if as_drawn < as_taken:
                pixels, parts = taken
    except LibraryError as error:
        raise GenerationError("not-installed", str(error)) from error
    return RawOutput(pixels=pixels, how="layout", parts=parts)


def _painted(
    scene: Reading, drawings: Sequence[Pixels | None], params: GenerationParams
) -> tuple[Pixels, tuple[Part, ...]]:
    chosen = [_sprite(one, drawing) for one, drawing in zip(scene.things, drawings, strict=True)]
    sprites = [sprite for sprite, _ in chosen]
    pixels = composing.composed(scene, sprites, params.width, params.height, params.seed)
    return pixels, tuple(part for _, part in chosen)


def _sprite(one: Named, drawing: Pixels | None) -> tuple[Pixels, Part]:
    if drawing is not None and (cut := composing.cut_out(enlarged(drawing, CUT_SIDE))) is not None:
        return cut, Part(one.words, "drawn", model=_drawer().version)
    found = SETS[one.thing.source]
    pixels = design(one.thing.number)
    if one.colour and one.colour not in one.thing.label.split():
        pixels = composing.painted(pixels, one.colour)
    return pixels, Part(one.words, "taken", **found, changed=bool(one.colour))


#: Drawings are cut out of their white at this size.
CUT_SIDE = 320


def _recognised(scene: Reading, drawn: Any) -> list[Pixels | None]:
    """Of each thing the drawing [64, 64, 3] that its name fits best, or None where none is recognised."""
    if not scene.things:
        return []
    space, names, others = _checking()
    tries = drawn.reshape(-1, *drawn.shape[2:])
    seen = space.embed_images([enlarged(one, LOOKED_AT) for one in tries])
    own = space.embed_texts([one.words for one in scene.things])
    fits = (seen @ own.T).reshape(len(scene.things), TRIES, -1)
    beside = (seen @ others.T).reshape(len(scene.things), TRIES, -1)
    found = list[Pixels | None]()
    for at, one in enumerate(scene.things):
        ours = fits[at, :, at]
        rivals = beside[at][:, [name != one.thing.label for name in names]]
        best = int(ours.argmax())
        first = int((rivals[best] > ours[best]).sum()) < FIRST
        found.append(drawn[at, best] if first else None)
    return found


def _leads(scene: Reading, pictures: Sequence[Pixels]) -> list[float]:
    """How clearly each picture of a whole scene shows the thing that is seen least of all: by how much its score is
    above the one that keeps others out of the first ``FIRST_IN_SCENE``; below 0 it is not recognised."""
    space, names, others = _checking()
    seen = space.embed_images(pictures)
    own = space.embed_texts([one.words for one in scene.things]) @ seen.T
    labels = [one.thing.label for one in scene.things]
    rivals = (others @ seen.T)[[name not in labels for name in names]]
    leads = []
    for at, scores in enumerate(own):
        beside = np.sort(np.concatenate([np.delete(own, at, axis=0), rivals]), axis=0)
        leads.append(scores - beside[-FIRST_IN_SCENE])
    return [float(lead) for lead in np.min(leads, axis=0)]


@lru_cache(maxsize=1)
def _checking() -> tuple[JointSpace, list[str], Any]:
    """The space that looks at drawings, and names of other things with their places in it."""
    from ml.alignment.space import SHIPPED, JointSpace
    from ml.alignment.storage import missing_models

    spaces = (JointSpace.load(SHIPPED.parent / name) for name in ("open-2", "prior-2"))
    space = next(one for one in spaces if not missing_models(one.manifest) or one.id == "prior")
    known = library()
    # Of things that people have several names for: what is common is taken for one another.
    called = Counter(known.words["en"].values())
    labels = [one.label for one in known.things if called[one.number] > 1]
    names = [labels[at] for at in np.random.default_rng(0).permutation(len(labels))[:AMONG]]
    return space, names, space.embed_texts(names)
