"""What is generated as the API shows them."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from tenants.generation.models import Generation
from tenants.jobs.shapes import Job
from tenants.shapes import Choices, Doc, JsonObject, Shape


class GenerationResult(Shape, kw_only=True):
    kind: Annotated[str, Choices(Generation.KINDS)]
    asset: Annotated[str | None, Doc("Null where the policy kept it out.")]
    score: Annotated[float | None, Doc("How well it fits the prompt, by the joint space: -1 to 1.")]
    scores: Annotated[list[float], Doc("Of every candidate that was drawn.")]
    how: Annotated[
        str,
        Choices(("model", "rules", "layout")),
        Doc(
            "`layout`: put together by rules, of parts that a model drew or that were taken from designs, as "
            "`provenance.parts` says of each; `rules`: composed without a model."
        ),
    ]
    model: Annotated[str, Doc("Name and version, as in its manifest.")]
    provenance: Annotated[
        JsonObject,
        Doc(
            "What was read back before it was released (`c2pa`, `watermark`), and what people see and hear. Of a "
            "layout `parts`: each `thing`, and `how` it came about: `drawn` by `model`, or `taken` from the designs "
            "`name` by `author` under `licence`."
        ),
    ]
    audit: Annotated[str | None, Doc("Of the file; null where no policy was in force.")]
    decision: Annotated[str | None, Doc("Of that audit, where the policy is enforced.")]
    moderation: Annotated[str | None, Doc("As of the asset now.")]


class GenerationShape(Shape, kw_only=True):
    id: str
    state: Annotated[
        str,
        Choices(Generation.State.values),
        Doc("`blocked`: the policy refused the prompt, or all that was made; `error` says so."),
    ]
    prompt: str
    negative: str
    outputs: list[Annotated[str, Choices(Generation.KINDS)]]
    seed: int
    steps: int
    guidance: float
    width: int
    height: int
    seconds: float
    candidates: Annotated[int, Doc("Pictures that are drawn, of which the best is kept.")]
    dataset: Annotated[str, Doc("Where what is made is kept.")]
    score: Annotated[float | None, Doc("Of all results that have one, on average.")]
    models: Annotated[JsonObject, Doc("By kind.")]
    results: list[GenerationResult]
    variation_of: str | None
    remix_of: str | None
    prompt_audit: Annotated[str | None, Doc("The audit of the words; null where there was none.")]
    job: str | None
    error: JsonObject | None
    created_by: str
    created_at: dt.datetime
    finished_at: dt.datetime | None


class DisclosureMark(Shape, kw_only=True):
    installation: Annotated[
        str,
        Choices(("off", "on", "enforced")),
        Doc("What holds where the tenant chooses nothing; `enforced` cannot be turned off."),
    ]
    chosen: Annotated[bool | None, Doc("By the tenant. Null: as the installation has it.")]
    in_force: bool


class Disclosure(Shape, kw_only=True):
    icon: Annotated[DisclosureMark, Doc("Drawn into a corner of pictures and films.")]
    notice: Annotated[DisclosureMark, Doc("Spoken before music, and before the sound of films.")]


class GenerationAccepted(Shape, kw_only=True):
    generation: GenerationShape
    job: Job
