"""OpenCLIP's files (github.com/mlfoundations/open_clip) as those of transformers' CLIP, where the two are one network.

That is so for a vision transformer with a class token and OpenAI's text transformer. Everything else that OpenCLIP
builds (ResNets, timm's networks such as MobileCLIP's and SigLIP's, other text towers, attention pooling) is refused,
with its name.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from ml.hub.fetching import AddingError

WEIGHTS = ("open_clip_model.safetensors", "model.safetensors", "open_clip_pytorch_model.safetensors")
#: Settings of the two towers that change the network, and the only value that is known here.
PLAIN_VISION: dict[str, Any] = {
    "timm_model_name": None, "attentional_pool": False, "attn_pooler_heads": None, "ls_init_value": None,
    "pool_type": "tok", "final_ln_after_pool": False, "no_ln_pre": False, "pos_embed_type": "learnable",
    "act_kwargs": None, "norm_kwargs": None, "output_tokens": False, "qk_norm": False, "scaled_cosine_attn": False,
}  # fmt: skip
PLAIN_TEXT: dict[str, Any] = {
    "hf_model_name": None, "embed_cls": False, "pool_type": "argmax", "no_causal_mask": False, "proj_bias": False,
    "final_ln_after_pool": False, "ls_init_value": None, "act_kwargs": None, "norm_kwargs": None,
    "output_tokens": False, "proj_type": "linear", "hf_tokenizer_name": None, "qk_norm": False,
}  # fmt: skip
IGNORED = frozenset({"attn_mask", "logit_scale", "logit_bias", "text.attn_mask", "text.logit_scale"})
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
RESAMPLING = {"bicubic": 3, "bilinear": 2}
#: Beside the weights, what a tokenizer is made of.
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt",
    "added_tokens.json",
)  # fmt: skip
END = 49407


def convert(config: dict[str, Any], folder: Path, out: Path) -> dict[str, Any]:
    """Write ``out`` as transformers reads it; its configuration comes back. Raises AddingError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    made = clip_config(config)
    path = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if path is None:
        raise AddingError(f"it has none of {', '.join(WEIGHTS)}")
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise AddingError(f"{path.name} is no safetensors file, or is damaged: {error}") from error
    out.mkdir(parents=True)
    save_file(renamed(state), out / "model.safetensors", {"format": "pt"})
    (out / "config.json").write_text(json.dumps(made))
    (out / "preprocessor_config.json").write_text(json.dumps(_preprocessor(config, made)))
    for name in TOKENIZER_FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)
    return made


def clip_config(config: dict[str, Any]) -> dict[str, Any]:
    """transformers' configuration of what ``open_clip_config.json`` describes. Raises AddingError."""
    try:
        model = config["model_cfg"]
        vision, text = model["vision_cfg"], model["text_cfg"]
        _require_plain(vision, PLAIN_VISION, "picture")
        _require_plain(text, PLAIN_TEXT, "text")
        if not isinstance(vision["layers"], int):
            raise AddingError("its picture tower is a ResNet, which CLIP of transformers is not")
        return _clip_config(model, vision, text)
    except (KeyError, TypeError, AttributeError) as error:
        raise AddingError(f"its open_clip_config.json lacks {error}") from error


def _clip_config(model: dict[str, Any], vision: dict[str, Any], text: dict[str, Any]) -> dict[str, Any]:
    activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
    return {
        "model_type": "clip",
        "architectures": ["CLIPModel"],
        "projection_dim": model["embed_dim"],
        "text_config": {
            "model_type": "clip_text_model", "hidden_size": text["width"], "num_hidden_layers": text["layers"],
            "num_attention_heads": text["heads"],
            "intermediate_size": int(text["width"] * text.get("mlp_ratio", 4.0)),
            "max_position_embeddings": text.get("context_length", 77), "vocab_size": text.get("vocab_size", 49408),
            "hidden_act": activation, "projection_dim": model["embed_dim"], "bos_token_id": END - 1,
            "eos_token_id": text.get("eos_id", text.get("vocab_size", END + 1) - 1), "pad_token_id": 0,
        },
        "vision_config": {
            "model_type": "clip_vision_model", "hidden_size": vision["width"],
            "num_hidden_layers": vision["layers"],
            "num_attention_heads": vision["width"] // vision.get("head_width", 64),
            "intermediate_size": int(vision["width"] * vision.get("mlp_ratio", 4.0)),
            "image_size": _side(vision), "patch_size": vision["patch_size"], "hidden_act": activation,
            "projection_dim": model["embed_dim"],
        },
    }  # fmt: skip


def _require_plain(settings: dict[str, Any], plain: dict[str, Any], tower: str) -> None:
    for name, known in plain.items():
        value = settings.get(name, known)
        if value != known and value not in (None, False):
            raise AddingError(
                f"its {tower} tower is not that of CLIP: {name} is {value!r}, which transformers' CLIP does not have"
            )


def _side(vision: dict[str, Any]) -> int:
    side = vision.get("image_size", 224)
    if isinstance(side, list):
        if len(set(side)) != 1:
            raise AddingError(f"its pictures are not square: {side}")
        side = side[0]
    return int(side)


def _preprocessor(config: dict[str, Any], made: dict[str, Any]) -> dict[str, Any]:
    steps = config.get("preprocess_cfg") or {}
    mode = steps.get("resize_mode", "shortest")
    if mode not in ("shortest", "squash"):
        raise AddingError(f"its pictures are brought to size by {mode!r}, which no export here does")
    side = made["vision_config"]["image_size"]
    size = {"height": side, "width": side}
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": side} if mode == "shortest" else size,
        "resample": RESAMPLING.get(steps.get("interpolation", "bicubic"), 3),
        "do_center_crop": mode == "shortest",
        "crop_size": size,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "image_mean": list(steps.get("mean") or MEAN),
        "image_std": list(steps.get("std") or STD),
    }


# --- Weights ---------------------------------------------------------------------------------------------

_NAMES = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
}
_NORMS = {
    "ln_final": "text_model.final_layer_norm",
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
}
_LAYER = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)\.(\w+)")
_PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


def renamed(state: dict[str, Any]) -> dict[str, Any]:
    """OpenCLIP's tensors under the names of transformers' CLIPModel. Raises AddingError for one that has no place."""
    import torch

    found: dict[str, Any] = {"logit_scale": torch.tensor(0.0)}
    for name, tensor in state.items():
        if name not in IGNORED:
            found.update(_placed(name.removeprefix("text."), tensor))
    return {name: tensor.float().contiguous() for name, tensor in found.items()}


def _placed(name: str, tensor: Any) -> dict[str, Any]:
    if name in _NAMES:
        return {_NAMES[name]: tensor}
    if name == "text_projection":
        return {"text_projection.weight": tensor.T}
    if name == "visual.proj":
        return {"visual_projection.weight": tensor.T}
    stem, _, kind = name.rpartition(".")
    if stem in _NORMS:
        return {f"{_NORMS[stem]}.{kind}": tensor}
    if (layer := _LAYER.fullmatch(name)) is not None:
        return _of_layer(name, layer, tensor)
    raise AddingError(f"its weights {name!r} have no place in CLIP of transformers")


def _of_layer(name: str, layer: re.Match[str], tensor: Any) -> dict[str, Any]:
    tower = "vision_model" if layer[1] else "text_model"
    stem = f"{tower}.encoder.layers.{layer[2]}."
    if layer[3] == "attn" and layer[4] in ("in_proj_weight", "in_proj_bias"):
        kind = layer[4].removeprefix("in_proj_")
        parts = zip("qkv", tensor.chunk(3), strict=True)
        return {f"{stem}self_attn.{part}_proj.{kind}": rows for part, rows in parts}
    if layer[3] in _PARTS:
        return {f"{stem}{_PARTS[layer[3]]}.{layer[4]}": tensor}
    raise AddingError(f"its weights {name!r} have no place in CLIP of transformers")
