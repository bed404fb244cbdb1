"""Readers of bulk imports: from a file, folder or bucket to a stream of items. They read and decide nothing else.

>>> with open_items(path, detect(path, "products.csv"), mapping={"text": "title", "id": "sku"}) as items:
...     for item in items:
...         print(item.row, item.error or item.text)
"""

from tenants.datasets.importers.delimited import escape_formula
from tenants.datasets.importers.format_detection import detect
from tenants.datasets.importers.mapping import Mapping
from tenants.datasets.importers.model import Column, Item, Preview
from tenants.datasets.importers.sources import FORMATS, open_items, preview

__all__ = [
    "FORMATS",
    "Column",
    "Item",
    "Mapping",
    "Preview",
    "detect",
    "escape_formula",
    "open_items",
    "preview",
]
