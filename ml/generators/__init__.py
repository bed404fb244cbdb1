"""What makes pictures, clips and music. ``load_generator`` is the only way to a generator: it marks what that makes.

``base`` has the types of requests and results, ``studio`` makes of one prompt a picture, a clip and music.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ml.catalog import Catalog, UnknownPlugin
from ml.generators.base import GenerationError, Generator, Marker

if TYPE_CHECKING:
    from ml.generators._marked import MarkedGenerator

__all__ = ["generator_ids", "load_generator", "understands"]

CATALOG = Catalog("ml.generators")
#: Beside the plug-ins stands the studio, which puts them together.
NOT_PLUGINS = frozenset({"studio"})


def generator_ids() -> list[str]:
    """Every plug-in's id. Imports none."""
    return [name for name in CATALOG.ids() if name not in NOT_PLUGINS]


def understands(spec: str, prompt: str) -> bool:
    """Whether the generator of a spec knows anything that a prompt names; True of those that read any words. Loads no
    weights."""
    name = spec.partition(":")[0]
    if name in NOT_PLUGINS or name not in CATALOG.ids():
        return True
    reads = getattr(CATALOG.load(name), "understands", None)
    return reads is None or bool(reads(prompt))


def load_generator(spec: str, marker: Marker) -> MarkedGenerator:
    """A generator by its spec, such as ``small-picture`` or ``hf-image:/models/sd``, inside what marks at birth.

    Raises GenerationError: ``no-such-model`` or ``not-installed``.
    """
    from ml.generators._marked import MarkedGenerator

    name, _, argument = spec.partition(":")
    if name in NOT_PLUGINS:
        raise GenerationError("no-such-model", f"{name!r} is no generator.")
    try:
        generator: Generator = CATALOG.load(name).load(argument)
    except UnknownPlugin:
        raise GenerationError(
            "no-such-model", f"There is no generator {name!r}; there are: {', '.join(generator_ids())}."
        ) from None
    return MarkedGenerator(generator, marker)
