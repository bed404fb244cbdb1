"""One prompt to a picture, a clip and music that fit it and each other.

Several candidates of the picture are drawn; the joint space scores each against the prompt and the best is kept. The
clip starts from that picture and carries the music; all three share seed and mood. Everything comes from generators
inside their wrapper (``load_generator``), so that only marked files are in a ``Creation``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ml.generators import load_generator
from ml.generators._marked import MAX_SEED, MarkedGenerator, no_watch, required, time_stamped
from ml.generators.base import (
    GenerationError,
    GenerationParams,
    Kind,
    MarkedOutput,
    Marker,
    Pixels,
    Step,
    Watch,
)

if TYPE_CHECKING:
    from ml.alignment.space import JointSpace
    from ml.composing.moods import Mood

#: Shares of the whole that each part takes, for the progress.
SHARES: Mapping[str, float] = {"image": 5, "audio": 1, "video": 4}
TOTAL = 100
MAX_CANDIDATES = 8
NAMES: Mapping[Kind, str] = {"image": "pictures", "video": "clips", "audio": "music"}


@dataclass(frozen=True)
class Request:
    """What is wanted. ``outputs``: one to three kinds. ``candidates``: pictures to choose from, 1 to 8. ``picture``:
    uint8 [h, w, 3], what a clip starts from instead of a drawn one. ``seconds``: of music and of clips."""

    prompt: str
    negative: str = ""
    outputs: Sequence[Kind] = ("image",)
    seed: int = 0
    steps: int = 25
    guidance: float = 3.0
    width: int = 512
    height: int = 512
    seconds: float = 10.0
    candidates: int = 2
    picture: Pixels | None = None


@dataclass(frozen=True)
class Piece:
    """One output, made with ``seed``.

    ``score``: the joint space's inner product of the prompt with the picture, with a clip's middle frame, or with the
    words of the music's mood, which is another scale: texts are nearer to each other. -1 to 1. ``scores``: of all
    candidates, in the order of their seeds.
    """

    made: MarkedOutput
    score: float | None
    scores: Sequence[float]
    seed: int

    @property
    def kind(self) -> Kind:
        return self.made.kind


@dataclass(frozen=True)
class Creation:
    """``score``: the mean over what can be seen; without any, the music's."""

    pieces: Sequence[Piece]
    score: float | None


class Studio:
    """``specs``: a generator for each kind; "" or none where the installation makes none of it. ``space``: what moods
    of music are read in, by default what prompts are. ``scorer``: the space that pictures are compared with the prompt
    in, by default the same.

    Generators are loaded when first used and kept. Not thread-safe.
    """

    def __init__(
        self,
        specs: Mapping[Kind, str],
        marker: Marker,
        space: JointSpace | None = None,
        scorer: JointSpace | None = None,
    ) -> None:
        self._specs, self._marker, self._space, self._scorer = specs, marker, space, scorer
        self._generators: dict[Kind, MarkedGenerator] = {}

    @property
    def space(self) -> JointSpace:
        if self._space is None:
            from ml.drawing.conditioning import prompt_space

            self._space = prompt_space()
        return self._space

    def generator(self, kind: Kind) -> MarkedGenerator:
        """Raises GenerationError where there is none, or it cannot run here."""
        if kind not in self._generators:
            if not (spec := self._specs.get(kind, "")):
                raise GenerationError("not-installed", f"This installation makes no {NAMES[kind]}.")
            self._generators[kind] = load_generator(spec, self._marker)
        if lacking := self._generators[kind].missing():
            raise GenerationError("not-installed", lacking)
        return self._generators[kind]

    def create(self, request: Request, watch: Watch = no_watch) -> Creation:
        """All outputs of the request, or none. Raises GenerationError, and what ``watch`` raises."""
        _check(request)
        work = _Work(self, request, watch)
        pieces = [replace(piece, made=time_stamped(self._marker, piece.made)) for piece in work.pieces()]
        watch(Step(TOTAL, TOTAL))
        return Creation(pieces, _mean(pieces))

    def scores(self, prompt: str, pictures: Sequence[Pixels]) -> list[float]:
        """How well each picture fits the prompt."""
        scorer = self._scorer or self.space
        found = scorer.embed_texts([prompt]) @ scorer.embed_images(pictures).T
        return [round(float(score), 4) for score in found[0]]

    def mood_score(self, prompt: str, mood: Mood) -> float:
        """How near the mood's words are to the prompt: the space hears nothing."""
        vectors = self.space.embed_texts([prompt, mood.words])
        return round(float(vectors[0] @ vectors[1]), 4)


class _Work:
    """One request on its way."""

    def __init__(self, studio: Studio, request: Request, watch: Watch) -> None:
        self._studio, self._request, self._watch = studio, request, watch
        parts = [kind for kind in SHARES if kind in self._parts()]
        # All of them are found before the first is drawn: what cannot be made fails at once.
        self._generators = {kind: studio.generator(kind) for kind in parts}
        self._before, self._whole = 0.0, sum(SHARES[kind] for kind in parts)
        self._mood = self._find_mood()

    def _parts(self) -> set[Kind]:
        outputs = set(self._request.outputs)
        starts = "video" in outputs and self._request.picture is None
        return outputs | {"image"} if starts else outputs

    def pieces(self) -> list[Piece]:
        made: dict[Kind, Piece] = {}
        for kind, draw in (("image", self._picture), ("audio", self._music), ("video", self._clip)):
            if kind in self._generators:
                made[kind] = draw(made)
                self._before += SHARES[kind]
        return [made[kind] for kind in self._request.outputs]

    def _picture(self, made: Mapping[Kind, Piece]) -> Piece:
        batch = list(self._candidates())
        drawn = self._generators["image"].make(batch, self._part("image"))
        scores = self._studio.scores(self._request.prompt, [_seen(one) for one in drawn])
        best = max(range(len(drawn)), key=scores.__getitem__)
        return Piece(drawn[best], scores[best], scores, batch[best].seed)

    def _music(self, made: Mapping[Kind, Piece]) -> Piece:
        params = self._wish()
        [drawn] = self._generators["audio"].make([params], self._part("audio"))
        score = self._studio.mood_score(params.prompt, params.mood) if params.mood else None
        return Piece(drawn, score, () if score is None else (score,), params.seed)

    def _clip(self, made: Mapping[Kind, Piece]) -> Piece:
        born = self._generators["video"]
        start = self._request.picture
        params = replace(
            self._wish(),
            picture=start if start is not None else _seen(made["image"].made),
            sound=made["audio"].made.sound if "audio" in made else None,
            seconds=min(self._request.seconds, born.limits.max_seconds),
        )
        [drawn] = born.make([params], self._part("video"))
        scores = self._studio.scores(params.prompt, [_seen(drawn)])
        return Piece(drawn, scores[0], scores, params.seed)

    def _wish(self) -> GenerationParams:
        asked = self._request
        return GenerationParams(
            asked.prompt, asked.negative, asked.seed, asked.steps, asked.guidance,
            asked.width, asked.height, asked.seconds, self._mood,
        )  # fmt: skip

    def _candidates(self) -> Iterator[GenerationParams]:
        """With seeds from the request's on. Every other one may be a layout of several things; a single one, too."""
        count = self._request.candidates
        for at in range(count):
            seed = (self._request.seed + at) & MAX_SEED
            yield replace(self._wish(), seed=seed, arrange=at % 2 == 1 or count == 1)

    def _find_mood(self) -> Mood | None:
        """One for music and clip; pictures need none."""
        if not self._generators.keys() & {"audio", "video"}:
            return None
        from ml.composing.moods import mood_of

        return mood_of(self._request.prompt, self._studio.space, self._request.seed)

    def _part(self, kind: Kind) -> Watch:
        def watch(step: Step) -> None:
            done = self._before + SHARES[kind] * step.done / max(1, step.total)
            self._watch(Step(int(TOTAL * done / self._whole), TOTAL, step.preview))

        return watch


def _mean(pieces: Sequence[Piece]) -> float | None:
    scored = [piece for piece in pieces if piece.score is not None]
    seen = [piece for piece in scored if piece.kind != "audio"] or scored
    scores = [piece.score for piece in seen if piece.score is not None]
    return round(sum(scores) / len(scores), 4) if scores else None


def _check(request: Request) -> None:
    if (
        not request.outputs
        or set(request.outputs) - set(NAMES)
        or len(set(request.outputs)) < len(request.outputs)
    ):
        raise GenerationError("unreadable", f"Outputs are one to three of {', '.join(NAMES)}, each once.")
    if request.candidates < 1:
        raise GenerationError("unreadable", "At least one candidate is drawn.")
    if request.candidates > MAX_CANDIDATES:
        raise GenerationError("too-large", f"At most {MAX_CANDIDATES} candidates are drawn.")


def _seen(made: MarkedOutput) -> Pixels:
    """What was drawn, without the icon: the prompt did not ask for it, and a clip would move it."""
    return made.scene if made.scene is not None else required(made.pixels)
