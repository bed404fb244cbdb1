"""EfficientNet-Lite2 (Tan & Le 2019, arXiv:1905.11946; Apache-2.0), INT8, 352 px: 1,000 probabilities."""

from __future__ import annotations

from ml.encoders._efficientnet import EfficientNet
from ml.encoders.base import Encoder


def load(argument: str) -> Encoder:
    """The one variant there is; ``argument`` is ignored."""
    return EfficientNet("efficientnet-lite2")
