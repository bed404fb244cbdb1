"""An encoder that was exported by name: ``onnx:<name>``. Runs without torch and without transformers.

``python -m ml.compression export SPEC --name NAME`` makes one; its manifest says how texts are cut into tokens and how
pictures are brought to size.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml.compression.graph import feed
from ml.compression.store import TOKENIZER, Export, ExportMissing, find_export
from ml.devices import in_halves
from ml.encoders._onnx import device_of, open_session
from ml.encoders._triton import placed
from ml.encoders.base import Encoder, EncoderUnavailable, Pixels, Vectors, as_pixels, as_text

MAX_BATCH = 16
#: This fusion's kernel takes seven times what its two parts take (onnxruntime 1.32).
SLOW_FUSIONS = ("SkipLayerNormFusion",)


class OnnxEncoder(Encoder):
    """What a text and a picture tower share: the session, and the batch cut into pieces."""

    def __init__(self, export: Export) -> None:
        entry = export.entry
        self.id = f"onnx:{export.name}"
        self.modality, self.dimension = entry["modality"], int(entry["dimension"])
        self.version = entry["version"]
        self._session = open_session(export.model, without=SLOW_FUSIONS)
        self.device = device_of(self._session)
        self._inputs = {one.name for one in self._session.get_inputs()}
        self._steps = entry["preparation"]

    def place(self, model: str) -> None:
        """Run on an inference server that has the network as ``model``, where the settings name one."""
        self._session = placed(model, self._session)

    def _run(self, feeds: dict[str, NDArray[Any]]) -> Vectors:
        known = {name: value for name, value in feeds.items() if name in self._inputs}
        vectors: Vectors = self._session.run(None, known)[0]
        return vectors

    def _filled(self, groups: list[list[int]], prepared: list[Any]) -> Vectors:
        """Run the rows of each group together, at most MAX_BATCH at a time, and put them back in order."""
        vectors = np.empty((len(prepared), self.dimension), np.float32)
        for group in groups:
            for start in range(0, len(group), MAX_BATCH):
                rows = group[start : start + MAX_BATCH]
                vectors[rows] = in_halves(
                    lambda some: self._run(self._feeds(list(some))), [prepared[row] for row in rows]
                )
        return vectors

    def _feeds(self, prepared: list[Any]) -> dict[str, NDArray[Any]]:
        raise NotImplementedError


class TextEncoder(OnnxEncoder):
    """Texts to vectors; a text's vector does not depend on its neighbours in a batch."""

    def __init__(self, export: Export) -> None:
        from tokenizers import Tokenizer

        super().__init__(export)
        pad = self._steps["pad"]
        self._tokenizer = Tokenizer.from_file(str(export.folder / TOKENIZER))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self._steps["max_tokens"])
        if pad["length"]:
            self._tokenizer.enable_padding(length=pad["length"], pad_id=pad["token"])
        self._packed = bool(self._steps.get("packed"))

    def encode(self, batch: Sequence[str]) -> Vectors:
        """Texts to float32 [n, dimension]; what is longer than the tower takes is cut."""
        encodings = [self._tokenizer.encode(as_text(text)) for text in batch]
        if self._packed:
            # Of similar length, so that attention has few empty cells.
            order = sorted(range(len(encodings)), key=lambda row: len(encodings[row].ids))
            return self._filled([order], encodings)
        alike: dict[int, list[int]] = defaultdict(list)
        for row, encoding in enumerate(encodings):
            alike[len(encoding.ids)].append(row)
        return self._filled(list(alike.values()), encodings)

    def _feeds(self, prepared: list[Any]) -> dict[str, NDArray[Any]]:
        if self._packed:
            return feed([encoding.ids for encoding in prepared])
        ids = np.array([encoding.ids for encoding in prepared], np.int64)
        mask = np.array([encoding.attention_mask for encoding in prepared], np.int64)
        return {"input_ids": ids, "attention_mask": mask if self._steps["mask"] else np.ones_like(mask)}


class PictureEncoder(OnnxEncoder):
    """Pictures of any size to vectors."""

    def encode(self, batch: Sequence[Pixels]) -> Vectors:
        """Uint8 pictures [h, w, 3] to float32 [n, dimension]."""
        parts = [
            in_halves(
                lambda some: self._run({"pixels": np.stack(some)}),
                [prepare_picture(one, self._steps) for one in batch[at : at + MAX_BATCH]],
            )
            for at in range(0, len(batch), MAX_BATCH)
        ]
        return np.concatenate(parts) if parts else np.empty((0, self.dimension), np.float32)


def prepare_picture(picture: Any, steps: dict[str, Any]) -> Pixels:
    """Resize, then cut the middle out: uint8 [h, w, 3] of the size that the steps name."""
    pixels = as_pixels(picture)
    resize, crop = steps["resize"], steps["crop"]
    if resize is not None:
        pixels = _resized(pixels, resize, Image.Resampling(steps["resample"]), steps.get("gap"))
    return pixels if crop is None else _cropped(pixels, crop)


def _resized(pixels: Pixels, resize: Any, resample: Image.Resampling, gap: float | None) -> Pixels:
    height, width = resize if isinstance(resize, list) else _by_shortest(pixels.shape[:2], int(resize))
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), resample, reducing_gap=gap))


def _by_shortest(size: tuple[int, ...], edge: int) -> tuple[int, int]:
    height, width = size
    short = min(height, width)
    # Rounded down, as torchvision and transformers do.
    return max(1, int(edge * height / short)), max(1, int(edge * width / short))


def _cropped(pixels: Pixels, crop: list[int]) -> Pixels:
    """The middle of the size ``crop``; a picture that is smaller gets black edges."""
    height, width = crop
    short = [(max(0, want - have) + 1) // 2 for want, have in zip(crop, pixels.shape[:2], strict=True)]
    if any(short):
        pixels = np.pad(pixels, ((short[0], short[0]), (short[1], short[1]), (0, 0)))
    top, left = round((pixels.shape[0] - height) / 2), round((pixels.shape[1] - width) / 2)
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def open_export(export: Export) -> Encoder:
    """The encoder of an export that was found, or is being made."""
    return TextEncoder(export) if export.entry["modality"] == "text" else PictureEncoder(export)


def load(argument: str) -> Encoder:
    """The export of that name, on the server of TRITON_URL if there is one (``ml.encoders._triton``).

    Raises EncoderUnavailable for one that is missing, damaged or cannot be opened.
    """
    try:
        encoder = open_export(find_export(argument))
        if isinstance(encoder, OnnxEncoder):
            encoder.place(argument)
        return encoder
    except ExportMissing as error:
        raise EncoderUnavailable(str(error)) from error
    except (KeyError, TypeError) as error:
        raise EncoderUnavailable(f"the manifest of {argument!r} lacks {error}: export it again") from error
    except Exception as error:
        if isinstance(error, ValueError):
            raise
        # The runtime's errors share no class: an operator set that it does not know, a provider that gave up.
        raise EncoderUnavailable(f"the export {argument!r} cannot be opened: {str(error)[:300]}") from error
