"""A folder is a registry: listing imports nothing, unknown names are told what there is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ml.catalog import Catalog, UnknownPlugin


def test_ids_are_file_names() -> None:
    ids = Catalog("ml.encoders").ids()
    assert {
        "minilm",
        "efficientnet-lite0",
        "efficientnet-lite2",
        "hf",
        "torchvision",
        "whisper-tiny-en",
    } <= set(ids)
    assert "base" not in ids
    assert not [name for name in ids if name.startswith(("-", "_"))]


def test_listing_imports_no_plugin(run_python: Callable[[str], str]) -> None:
    code = (
        "import sys\nfrom ml.catalog import Catalog\nCatalog('ml.encoders').ids()\n"
        "print([m for m in sys.modules if m.startswith('ml.encoders.') or m in ('onnxruntime', 'torch')])"
    )
    assert run_python(code).strip() == "[]"


def test_unknown_names_the_known() -> None:
    with pytest.raises(UnknownPlugin, match="minilm"):
        Catalog("ml.encoders").load("word2vec")
    with pytest.raises(UnknownPlugin):
        Catalog("ml.encoders").load("base")
