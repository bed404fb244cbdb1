"""A torchvision classifier without its last layer: ``torchvision:resnet101``, 2048-d (arXiv:1512.03385).

``torchvision:resnet101#/path/to/weights.pth`` (or ``.safetensors``) takes weights from a file; without it
they are torchvision's default ones, downloaded once to TORCH_HOME.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml.encoders._torch import as_images, in_batches, pick_device, unit, weights_version
from ml.encoders.base import Encoder, EncoderUnavailable, Vectors

PROBE_SECONDS = 5.0


class TorchvisionEncoder(Encoder):
    """Penultimate features of a classifier with an ``fc`` head (ResNet and kin); rows of norm 1."""

    modality = "image"

    def __init__(self, name: str, weights: str) -> None:
        import torch
        import torchvision

        if name not in torchvision.models.list_models(module=torchvision.models):
            raise EncoderUnavailable(f"torchvision has no model {name!r}")
        default = torchvision.models.get_model_weights(name).DEFAULT
        file = Path(weights).expanduser() if weights else _downloaded(default.url)
        network = torchvision.models.get_model(name, weights=None)
        if not hasattr(network, "fc"):
            raise EncoderUnavailable(f"{name}: only networks with an 'fc' head are supported")
        _fill(network, file)
        self.id, self.device, self.version = f"torchvision:{name}", pick_device(), weights_version([file])
        self.dimension = int(network.fc.in_features)
        network.fc = torch.nn.Identity()
        self._network = network.eval().to(self.device)
        self._transform = default.transforms()

    def encode(self, batch: Sequence[Any]) -> Vectors:
        """Uint8 pictures [h, w, 3] of any size to float32 [n, dimension], rows of norm 1."""
        return in_batches(self._run, batch, self.dimension)

    def _run(self, batch: Sequence[Any]) -> Any:
        import torch

        rows = torch.stack([self._transform(image) for image in as_images(batch)])
        return unit(self._network(rows.to(self.device)))


def load(argument: str) -> Encoder:
    """``<model>`` with optional ``#<weights file>``. Raises EncoderUnavailable."""
    name, _, weights = argument.partition("#")
    return TorchvisionEncoder(name, weights)


def _fill(network: Any, file: Path) -> None:
    """Load weights strictly; pickled ones through torch's restricted reader, which runs no code."""
    import torch
    from safetensors.torch import load_file

    if not file.is_file():
        raise EncoderUnavailable(f"there is no weights file {file}")
    try:
        plain = file.suffix != ".safetensors"
        state = torch.load(file, map_location="cpu", weights_only=True) if plain else load_file(file)
        network.load_state_dict(state)
    except Exception as error:
        raise EncoderUnavailable(
            f"{file} does not hold weights for this network: {str(error)[:300]}"
        ) from error


def _downloaded(url: str) -> Path:
    """torchvision's file, cached or downloaded; a short probe first, since the client waits for ever."""
    import torch

    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if file.is_file():
        return file
    try:
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - torchvision's own https address
        urllib.request.urlopen(request, timeout=PROBE_SECONDS).close()  # noqa: S310
        torch.hub.load_state_dict_from_url(
            url, map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
    except OSError as error:
        raise EncoderUnavailable(
            f"weights {url} cannot be downloaded ({error}): give a local file "
            f"(torchvision:<model>#/path/to/weights), put it into {file.parent}, or check the network"
        ) from error
    return file
