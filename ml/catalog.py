"""A folder as a registry: every file in it is a plug-in, its file name is the id, listing imports nothing."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

#: File names that are part of a folder's frame, not plug-ins; so is every name with a leading underscore.
FRAME = frozenset({"base"})


class UnknownPlugin(LookupError):
    """No file of that name is in the folder; the message lists those that are."""


@dataclass(frozen=True)
class Catalog:
    """The plug-ins of one package, for example ``Catalog("ml.encoders")``.

    ``ml/encoders/efficientnet_lite0.py`` has the id ``efficientnet-lite0``.
    """

    package: str

    def ids(self) -> list[str]:
        """Every plug-in's id, sorted. Imports only the package itself, no plug-in."""
        folder = Path(str(importlib.import_module(self.package).__file__)).parent
        names = [module.name for module in pkgutil.iter_modules([str(folder)])]
        return sorted(_to_id(name) for name in names if name not in FRAME and not name.startswith("_"))

    def load(self, plugin_id: str) -> ModuleType:
        """Import one plug-in's module. Raises UnknownPlugin."""
        known = self.ids()
        if plugin_id not in known:
            raise UnknownPlugin(f"{plugin_id!r} is not in {self.package}; there are: {', '.join(known)}")
        return importlib.import_module(f"{self.package}.{plugin_id.replace('-', '_')}")


def _to_id(module_name: str) -> str:
    return module_name.replace("_", "-")
