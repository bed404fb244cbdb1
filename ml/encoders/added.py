"""A tower of a space that was added to this installation: ``added:SLUG#text`` or ``added:SLUG#image``.

``manage.py add_space`` makes one; it is an export (``ml.encoders.onnx``) in the space's folder.
"""

from __future__ import annotations

from ml.alignment.installed import added_folder
from ml.compression.store import ExportMissing, find_export
from ml.encoders.base import Encoder, EncoderUnavailable
from ml.encoders.onnx import open_export

TOWERS = ("text", "image")


def load(argument: str) -> Encoder:
    """The tower. Raises EncoderUnavailable for one that is missing, damaged or cannot be opened, ValueError."""
    slug, _, tower = argument.partition("#")
    if tower not in TOWERS:
        raise ValueError(f"'added:{argument}' is not of the form 'added:SLUG#text' or 'added:SLUG#image'")
    try:
        encoder = open_export(find_export(tower, added_folder(slug)))
    except ExportMissing as error:
        raise EncoderUnavailable(f"the space {slug!r} that was added here is not whole: {error}") from error
    except Exception as error:
        if isinstance(error, ValueError):
            raise
        # The runtime's errors share no class.
        raise EncoderUnavailable(
            f"the {tower} tower of {slug!r} cannot be opened: {str(error)[:300]}"
        ) from error
    encoder.id = f"added:{argument}"
    return encoder
