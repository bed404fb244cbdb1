"""Hierarchical attention against plain attention, at equal budget: the same diffusers UNet, drawings and chance.

Each way learns the generator's training drawings at 32 px (rectified flow, words and style by cross-attention) for
STEPS steps; then the flow loss on held-out concepts, at moments and noise that are the same for all, says how well. The
article's fixed shares (0.7 global, 0.3 local) are the third way. STEPS and SEEDS are settings of the environment: small
by default, so that the table takes minutes; longer runs may tell another story.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from _report import Line, sized

from ml.drawing.conditioning import CONDITION, STYLES, prompt_vectors
from research.drawing.attention import GLOBAL_SHARE, MODES, Mode, use
from research.drawing.designs import TEST, TRAIN, Design, Designs, load_designs

STEPS = int(os.environ.get("STEPS") or sized(120, 1))
SEEDS = int(os.environ.get("SEEDS") or sized(2, 1))
SIDE, BATCH, RATE, DROPPED = 32, 16, 1e-3, 0.12
CHANNELS = (16, 48, 64)
#: Held-out drawings of the loss, and moments that each is asked about.
JUDGED, MOMENTS = sized(256, 4), sized(4, 1)

NAMES: dict[Mode, str] = {
    "learnt": "hierarchical, learnt shares",
    "fixed": f"hierarchical, fixed {GLOBAL_SHARE:g}/{1 - GLOBAL_SHARE:.1f}",
    "plain": "plain attention",
}


@dataclass(frozen=True)
class Set:
    """Drawings [n, 3, 32, 32] in -1..1 and their wishes [n, CONDITION], as tensors."""

    pictures: Any
    wishes: Any


def run() -> list[Line]:
    import torch

    designs = load_designs()
    if designs is None:
        return [Line("skipped: no drawings; `python -m research.drawing fetch` makes them", "-")]
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    taught, judged = _set(designs, TRAIN), _set(designs, TEST, JUDGED)
    losses: dict[Mode, list[float]] = {mode: [] for mode in MODES}
    seconds: dict[Mode, list[float]] = {mode: [] for mode in MODES}
    shares: list[float] = []
    for seed in range(SEEDS):
        for mode in MODES:
            start = time.process_time()
            unet = _trained(taught, mode, seed)
            seconds[mode].append(time.process_time() - start)
            losses[mode].append(_loss(unet, judged))
            if mode == "learnt":
                shares += [
                    float(mix.detach().sigmoid().mean())
                    for name, mix in unet.named_parameters()
                    if "mix" in name
                ]
    return _lines(losses, seconds, shares)


def _lines(
    losses: dict[Mode, list[float]], seconds: dict[Mode, list[float]], shares: list[float]
) -> list[Line]:
    lines = []
    for mode in MODES:
        gaps = np.array(losses[mode]) - np.array(losses["plain"])
        shown = f"{np.mean(losses[mode]):.4f}±{np.std(losses[mode]):.4f}"
        lines.append(Line(f"{NAMES[mode]}: held-out loss, {STEPS} steps, {SEEDS} seeds", shown))
        if mode != "plain":
            lines.append(
                Line("  less plain attention's, seed by seed", " ".join(f"{gap:+.4f}" for gap in gaps))
            )
        lines.append(Line("  CPU", round(float(np.mean(seconds[mode])), 1), "s"))
    return [
        *lines,
        Line("learnt share of the global way, layer by layer", " ".join(f"{one:.2f}" for one in shares)),
    ]


def _set(designs: Designs, split: str, most: int | None = None) -> Set:
    """Labels alone are asked for."""
    import torch

    concepts = designs.of(split)
    rows = [(one, style) for one in concepts for style in one.pictures]
    chosen = np.random.default_rng(0).permutation(len(rows))[:most]
    found = [rows[number] for number in chosen]
    pixels = designs.pixels[[one.pictures[style] for one, style in found]]
    small = pixels.reshape(len(pixels), SIDE, 2, SIDE, 2, 3).mean(axis=(2, 4)) / 127.5 - 1
    pictures = torch.from_numpy(small.transpose(0, 3, 1, 2).astype(np.float32))
    return Set(pictures, torch.from_numpy(_wishes(concepts, found)))


def _wishes(concepts: list[Design], found: list[tuple[Design, str]]) -> Any:
    words = dict(
        zip((one.id for one in concepts), prompt_vectors([one.label for one in concepts]), strict=True)
    )
    wishes = np.zeros((len(found), CONDITION), np.float32)
    for row, (one, style) in enumerate(found):
        wishes[row, : len(words[one.id])] = words[one.id]
        wishes[row, len(words[one.id]) + STYLES.index(style)] = 1
    return wishes


def _unet(mode: Mode) -> Any:
    from diffusers import UNet2DConditionModel

    return use(
        UNet2DConditionModel(
            sample_size=SIDE,
            in_channels=3,
            out_channels=3,
            block_out_channels=CHANNELS,
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=CONDITION,
            attention_head_dim=4,
            norm_num_groups=16,
        ),
        mode,
    )


def _trained(taught: Set, mode: Mode, seed: int) -> Any:
    import torch

    torch.manual_seed(seed)
    unet = _unet(mode)
    optimizer = torch.optim.AdamW(unet.parameters(), RATE)
    chance = torch.Generator().manual_seed(seed)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 30) * (1 - 0.9 * step / STEPS)
        rows = torch.randint(len(taught.pictures), (BATCH,), generator=chance)
        kept = torch.rand(BATCH, 1, generator=chance) >= DROPPED
        optimizer.zero_grad()
        moments = torch.rand(BATCH, generator=chance)
        noise = torch.randn(BATCH, 3, SIDE, SIDE, generator=chance)
        _flow_loss(unet, taught.pictures[rows], taught.wishes[rows] * kept, moments, noise).backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
    return unet.eval()


def _loss(unet: Any, judged: Set) -> float:
    import torch

    chance = torch.Generator().manual_seed(123)
    found = []
    with torch.inference_mode():
        for turn in range(MOMENTS):
            noise = torch.randn(judged.pictures.shape, generator=chance)
            moments = (torch.rand(len(noise), generator=chance) + turn) / MOMENTS
            for rows in torch.arange(len(noise)).split(BATCH):
                parts = (part[rows] for part in (judged.pictures, judged.wishes, moments, noise))
                found.append(float(_flow_loss(unet, *parts)))
    return float(np.mean(found))


def _flow_loss(unet: Any, clean: Any, wishes: Any, moments: Any, noise: Any) -> Any:
    """Mean square distance to the straight way from noise to drawing."""
    at = moments[:, None, None, None]
    foreseen = unet(at * clean + (1 - at) * noise, moments * 1000, wishes[:, None]).sample
    return ((foreseen - (clean - noise)) ** 2).mean()
