"""Turn the bundled PyTorch weights into small ONNX INT8 files, once: ``python -m ml.compression prepare``.

This package's own modules import torch and timm only inside the functions that export, so that reading
``models_dir()`` or a manifest costs a process nothing.
"""

from ml.compression.store import (
    ModelFile,
    ModelsMissing,
    find_model,
    is_intact,
    is_prepared,
    model_places,
    models_dir,
)

__all__ = [
    "ModelFile",
    "ModelsMissing",
    "find_model",
    "is_intact",
    "is_prepared",
    "model_places",
    "models_dir",
]
