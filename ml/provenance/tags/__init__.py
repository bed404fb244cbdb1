"""What a file's metadata says, as flat tags, read under a budget: every length in it was chosen by a stranger.

>>> read_tags(Path("picture.png"), "image/png").tags[0]
Tag(place='png', key='parameters', text='a castle\\nSteps: 20, Sampler: Euler a, …')
"""

from __future__ import annotations

from ml.media.model import File
from ml.provenance.tags import files
from ml.provenance.tags.fields import Budget, Tag, Tags

__all__ = ["Budget", "Tag", "Tags", "read_tags"]


def read_tags(path: File, media_type: str) -> Tags:
    """The tags of a picture, sound or film. Damaged parts are left out, never raised about; see ``Tags.complete``."""
    tags = Tags()
    if media_type.startswith("image/"):
        with path.open("rb") as file:
            files.read_picture(file, media_type, tags)
    else:
        files.read_stream(path, tags)
    return tags
