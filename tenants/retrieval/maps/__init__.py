"""Maps: the vectors of a workspace as points in the plane, to look at.

`reading` takes vectors out of the database, one an asset; `points` places them, by PCA at once or as a job left them;
`job` is that job; `colours` says what is known of each point now; `likeness` compares chosen assets; `comparing` lays
the maps of two models over each other.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenants.retrieval.maps.colours import as_columns as as_columns
    from tenants.retrieval.maps.colours import ids_of as ids_of
    from tenants.retrieval.maps.colours import shown as shown
    from tenants.retrieval.maps.comparing import MOST as MOST_COMPARED
    from tenants.retrieval.maps.comparing import compared as compared
    from tenants.retrieval.maps.comparing import matrix_of as matrix_of
    from tenants.retrieval.maps.points import placed as placed
    from tenants.retrieval.maps.points import points_of as points_of
    from tenants.retrieval.maps.points import tidy as tidy_points
    from tenants.retrieval.maps.reading import Wanted as Wanted
    from tenants.retrieval.maps.services import FEWEST_NEIGHBOURS as FEWEST_NEIGHBOURS
    from tenants.retrieval.maps.services import FLAG as FLAG
    from tenants.retrieval.maps.services import MAX_NAME as MAX_NAME
    from tenants.retrieval.maps.services import MOST_DATASETS as MOST_DATASETS
    from tenants.retrieval.maps.services import MOST_DIST as MOST_DIST
    from tenants.retrieval.maps.services import MOST_MAPS as MOST_MAPS
    from tenants.retrieval.maps.services import MOST_NEIGHBOURS as MOST_NEIGHBOURS
    from tenants.retrieval.maps.services import Params as Params
    from tenants.retrieval.maps.services import as_dict as map_as_dict
    from tenants.retrieval.maps.services import create_map as create_map
    from tenants.retrieval.maps.services import delete_map as delete_map
    from tenants.retrieval.maps.services import get_map as get_map
    from tenants.retrieval.maps.services import list_maps as list_maps

__all__ = [
    "FEWEST_NEIGHBOURS",
    "FLAG",
    "MAX_NAME",
    "MOST_COMPARED",
    "MOST_DATASETS",
    "MOST_DIST",
    "MOST_MAPS",
    "MOST_NEIGHBOURS",
    "Params",
    "Wanted",
    "as_columns",
    "compared",
    "create_map",
    "delete_map",
    "get_map",
    "ids_of",
    "list_maps",
    "map_as_dict",
    "matrix_of",
    "placed",
    "points_of",
    "shown",
    "tidy_points",
]

_FROM = {
    "FEWEST_NEIGHBOURS": "tenants.retrieval.maps.services:FEWEST_NEIGHBOURS",
    "FLAG": "tenants.retrieval.maps.services:FLAG",
    "MAX_NAME": "tenants.retrieval.maps.services:MAX_NAME",
    "MOST_COMPARED": "tenants.retrieval.maps.comparing:MOST",
    "MOST_DATASETS": "tenants.retrieval.maps.services:MOST_DATASETS",
    "MOST_DIST": "tenants.retrieval.maps.services:MOST_DIST",
    "MOST_MAPS": "tenants.retrieval.maps.services:MOST_MAPS",
    "MOST_NEIGHBOURS": "tenants.retrieval.maps.services:MOST_NEIGHBOURS",
    "Params": "tenants.retrieval.maps.services:Params",
    "Wanted": "tenants.retrieval.maps.reading:Wanted",
    "as_columns": "tenants.retrieval.maps.colours:as_columns",
    "compared": "tenants.retrieval.maps.comparing:compared",
    "create_map": "tenants.retrieval.maps.services:create_map",
    "delete_map": "tenants.retrieval.maps.services:delete_map",
    "get_map": "tenants.retrieval.maps.services:get_map",
    "ids_of": "tenants.retrieval.maps.colours:ids_of",
    "list_maps": "tenants.retrieval.maps.services:list_maps",
    "map_as_dict": "tenants.retrieval.maps.services:as_dict",
    "matrix_of": "tenants.retrieval.maps.comparing:matrix_of",
    "placed": "tenants.retrieval.maps.points:placed",
    "points_of": "tenants.retrieval.maps.points:points_of",
    "shown": "tenants.retrieval.maps.colours:shown",
    "tidy_points": "tenants.retrieval.maps.points:tidy",
}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        module, _, attribute = _FROM.get(name, "").partition(":")
        if not module:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(module), attribute)
