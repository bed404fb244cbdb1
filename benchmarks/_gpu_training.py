"""Steps a second of contrastive training (CLIP's two towers) and of BERT-base, in fp32 and mixed precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from _gpu_device import failure, name, rate
from _gpu_networks import NETWORKS, inputs
from _report import Line, sized

ROWS = sized(64, 2)


def run() -> list[Line]:
    lines = []
    for title, make in (("CLIP's two towers", _contrastive), ("BERT-base, 128 tokens", _single)):
        for precision in ("fp32", "fp16"):
            what = f"{title}, batch {ROWS}, {precision}"
            try:
                lines.append(Line(what, round(rate(_step(make(), precision)), 2), "steps/s"))
            except Exception as error:
                lines.append(Line(what, failure(error)))
    return lines


def _contrastive() -> tuple[list[Any], Callable[[], Any]]:
    """Both towers and the loss of one batch (InfoNCE)."""
    import torch
    from torch.nn import functional

    seen, read = ("CLIP ViT-B/16 picture", "CLIP text")
    towers = [NETWORKS[title]().to(name()).train() for title in (seen, read)]
    into = torch.nn.Linear(towers[0].model.config.hidden_size, towers[1].model.config.hidden_size).to(name())
    pixels, ids = inputs(seen, ROWS), inputs(read, ROWS)
    right = torch.arange(ROWS, device=name())

    def loss() -> Any:
        pictures = functional.normalize(into(towers[0](pixels)), dim=1)
        texts = functional.normalize(towers[1](ids), dim=1)
        return functional.cross_entropy(pictures @ texts.T / 0.07, right)

    return [*towers, into], loss


def _single() -> tuple[list[Any], Callable[[], Any]]:
    title = "BERT-base, 128 tokens"
    network, ids = NETWORKS[title]().to(name()).train(), inputs(title, ROWS)
    return [network], lambda: network(ids).float().square().mean()


def _step(made: tuple[list[Any], Callable[[], Any]], precision: str) -> Callable[[], None]:
    import torch

    networks, loss = made
    weights = [weight for network in networks for weight in network.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=1e-5)
    mixed = precision == "fp16"
    # A processor has no scaled fp16; bfloat16 needs no scale.
    kind = torch.float16 if name() == "cuda" else torch.bfloat16
    scaler = torch.amp.GradScaler(name(), enabled=mixed and name() == "cuda")

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(name(), dtype=kind, enabled=mixed):
            value = loss()
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()

    return step
