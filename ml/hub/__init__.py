"""Joint spaces from models of the Hugging Face hub: fetched, checked, exported and kept among the prepared models.

    added = add_space(Wanted("hf:openai/clip-vit-base-patch32"), print)
    take_away(added.slug)

Importing this package imports neither torch nor transformers.
"""

from ml.hub.adding import Added, Wanted, add_space, damaged_file, put_back, take_away
from ml.hub.fetching import AddingError, Limits

__all__ = [
    "Added",
    "AddingError",
    "Limits",
    "Wanted",
    "add_space",
    "damaged_file",
    "put_back",
    "take_away",
]
