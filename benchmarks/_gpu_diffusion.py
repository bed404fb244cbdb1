"""Steps a second of a denoising network of Stable Diffusion 1.5's size (diffusers), for pictures of 512 pixels."""

from __future__ import annotations

import importlib.util
from typing import Any

from _gpu_device import NOT_INSTALLED, failure, name, rate
from _report import Line, sized

SIDE, TOKENS = sized(64, 8), sized(77, 4)


def run() -> list[Line]:
    if importlib.util.find_spec("diffusers") is None:
        return [Line("diffusers", NOT_INSTALLED)]
    lines = []
    for precision in ("fp32", "fp16"):
        for pictures in sized((1, 4), (1,)):
            what = f"UNet of Stable Diffusion 1.5, {precision}, {pictures} at once, guided"
            try:
                lines.append(Line(what, round(_steps(precision, pictures), 2), "steps/s"))
            except Exception as error:
                lines.append(Line(what, failure(error)))
    return lines


def _steps(precision: str, pictures: int) -> float:
    import torch

    torch.manual_seed(0)
    kind = torch.float16 if precision == "fp16" else torch.float32
    network = _network().to(name(), kind).eval()
    # With and without the prompt, for classifier-free guidance.
    rows = 2 * pictures
    noise = torch.randn(rows, 4, SIDE, SIDE, device=name(), dtype=kind)
    words = torch.randn(rows, TOKENS, sized(768, 16), device=name(), dtype=kind)
    with torch.inference_mode():
        return rate(lambda: network(noise, 500, words))


def _network() -> Any:
    from diffusers import UNet2DConditionModel

    if sized(False, True):
        return UNet2DConditionModel(
            sample_size=SIDE,
            in_channels=4,
            out_channels=4,
            layers_per_block=1,
            block_out_channels=(16, 32),
            norm_num_groups=8,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=16,
            attention_head_dim=8,
        )
    return UNet2DConditionModel(sample_size=SIDE, cross_attention_dim=768, attention_head_dim=8)
