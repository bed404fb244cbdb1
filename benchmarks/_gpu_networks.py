"""Networks of the usual sizes with random weights: CLIP's towers, BERT-base, ResNet-101; and linear layers in INT8."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from _gpu_device import name
from _report import sized

SIDE, TOKENS, CLIP_TOKENS = sized(224, 32), sized(128, 16), sized(77, 16)
DEPTH = sized(12, 1)
#: Of all text networks: which ids there are does not matter, so that one is enough.
WORDS = sized(30522, 99)

Build = Callable[[], Any]


def _size(width: int) -> dict[str, int]:
    """Of a transformer whose heads have 64 numbers."""
    return {
        "hidden_size": sized(width, 32),
        "intermediate_size": sized(4 * width, 64),
        "num_attention_heads": sized(width // 64, 2),
        "num_hidden_layers": DEPTH,
    }


def clip_vision() -> Any:
    """ViT-B/16 as in CLIP (Radford et al. 2021): pixels [n, 3, 224, 224] to [n, 768]."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(image_size=SIDE, patch_size=16, **_size(768))
    return _pooled(CLIPVisionModel(config), "pixel_values")


def clip_text() -> Any:
    """CLIP's text tower of that size: ids [n, 77] to [n, 512]."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=WORDS, max_position_embeddings=CLIP_TOKENS, bos_token_id=1, eos_token_id=2, **_size(512)
    )
    return _pooled(CLIPTextModel(config), "input_ids")


def bert() -> Any:
    """BERT-base (Devlin et al. 2019): ids [n, 128] to [n, 768]."""
    from transformers import BertConfig, BertModel

    return _pooled(BertModel(BertConfig(vocab_size=WORDS, **_size(768))), "input_ids")


def resnet() -> Any:
    """ResNet-101 (He et al. 2016): pixels [n, 3, 224, 224] to [n, 1000]; a toy is ResNet-10."""
    import timm

    return timm.create_model(sized("resnet101", "resnet10t"), pretrained=False).eval()


NETWORKS: dict[str, Build] = {
    "CLIP ViT-B/16 picture": clip_vision,
    "CLIP text": clip_text,
    "BERT-base, 128 tokens": bert,
    "ResNet-101": resnet,
}


def inputs(title: str, rows: int) -> Any:
    """Random input of a network, on the device."""
    import torch

    if "text" in title or "BERT" in title:
        return torch.randint(3, WORDS, (rows, CLIP_TOKENS if "CLIP" in title else TOKENS), device=name())
    return torch.rand(rows, 3, SIDE, SIDE, device=name())


def built(title: str, precision: str) -> Any:
    """A network in fp32 (without TF32), fp16 or int8, which takes the input of ``inputs`` as it is."""
    import torch

    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    network = NETWORKS[title]().to(name())
    if precision == "fp32":
        return network
    network = network.half()
    if precision == "int8":
        to_int8(network)
    return lambda one: network(one.half() if one.is_floating_point() else one)


def to_int8(network: Any) -> None:
    """Replace the linear layers that the card's INT8 product can take (sizes in eights); the rest stays fp16."""
    from torch import nn

    for path, layer in list(network.named_modules()):
        if isinstance(layer, nn.Linear) and not (layer.in_features % 8 or layer.out_features % 8):
            parent, _, leaf = path.rpartition(".")
            setattr(network.get_submodule(parent), leaf, _int8_layer()(layer))


def has_linear(title: str) -> bool:
    """Whether INT8 by torch alone says anything: it has no INT8 convolution for cards."""
    return not title.startswith("ResNet")


def _int8_layer() -> Any:
    import torch
    from torch import nn

    class Int8Linear(nn.Module):
        """W8A8: a scale a row of the input, taken as it comes, and one an output (LLM.int8(), without its outliers)."""

        def __init__(self, layer: Any) -> None:
            super().__init__()
            weight = layer.weight.detach().float()
            scale = weight.abs().amax(1).clamp(min=1e-8) / 127
            rounded = (weight / scale[:, None]).round().to(torch.int8)
            self.register_buffer("weight", rounded.t())  # column-major, as the product asks
            self.register_buffer("scale", scale)
            self.register_buffer("bias", None if layer.bias is None else layer.bias.detach())

        def forward(self, given: Any) -> Any:
            rows = given.reshape(-1, given.shape[-1])
            scale = rows.abs().amax(1, keepdim=True).float().clamp(min=1e-8) / 127
            whole = (rows / scale).round().to(torch.int8)
            missing = max(0, 17 - len(whole))  # fewer rows than 17 it refuses on cards
            if missing:
                whole = torch.nn.functional.pad(whole, (0, 0, 0, missing))
            product = torch._int_mm(whole, self.weight)[: len(rows)]
            found = (product * (scale * self.scale)).to(given.dtype)
            found = found if self.bias is None else found + self.bias
            return found.reshape(*given.shape[:-1], -1)

    return Int8Linear


def _pooled(model: Any, argument: str) -> Any:
    from torch import nn

    class Pooled(nn.Module):
        """One input, one output."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, given: Any) -> Any:
            return self.model(**{argument: given}).pooler_output

    return Pooled().eval()
