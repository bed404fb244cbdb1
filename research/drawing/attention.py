"""Hierarchical attention for diffusers' UNets: every place sees all of the picture coarsely and its window finely.

A processor for ``diffusers.models.attention_processor.Attention``, whose projections it uses: the global way attends to
keys and values that were averaged to a coarse grid, the local way to those of the own window; a learnt share a head (or
a fixed one) mixes both. For n places it costs n · (coarse² + window²) instead of n².
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

Mode = Literal["learnt", "fixed", "plain"]
MODES: tuple[Mode, ...] = ("learnt", "fixed", "plain")
#: The article's shares of the global and the local way.
GLOBAL_SHARE = 0.7
#: Cells of the coarse grid and of a window, a side.
COARSE, WINDOW = 4, 4


@cache
def processor_class() -> type[Any]:
    """The processor; built on first use, so that importing this file loads no torch."""
    import torch
    from torch import nn
    from torch.nn.functional import scaled_dot_product_attention as attend

    class Hierarchical(nn.Module):
        """``share`` None: learnt, starting at one half a head. Takes square grids whose side both sizes divide."""

        def __init__(self, heads: int, share: float | None = None) -> None:
            super().__init__()
            self.share = share
            self.mix = nn.Parameter(torch.zeros(heads)) if share is None else None

        def forward(self, attn: Any, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
            """Tokens [b, side², c] to the same, row by row over the grid."""
            query, key, value = (
                _headed(part(hidden_states), attn.heads) for part in (attn.to_q, attn.to_k, attn.to_v)
            )
            seen = attend(query, _coarse(key), _coarse(value))
            near = _gathered(attend(_windows(query), _windows(key), _windows(value)), query)
            mixed = self._share() * seen + (1 - self._share()) * near
            joined = mixed.transpose(1, 2).flatten(2)
            out: torch.Tensor = attn.to_out[1](attn.to_out[0](joined))
            return out

        def _share(self) -> Any:
            return self.share if self.mix is None else self.mix.sigmoid()[None, :, None, None]

    return Hierarchical


def use(unet: Any, mode: Mode) -> Any:
    """Give every self-attention of a diffusers UNet this kind; "plain" leaves it as diffusers made it."""
    if mode == "plain":
        return unet
    share = GLOBAL_SHARE if mode == "fixed" else None
    for name, module in unet.named_modules():
        if name.endswith("attn1"):
            module.set_processor(processor_class()(module.heads, share))
    return unet


def _headed(tokens: torch.Tensor, heads: int) -> torch.Tensor:
    """[b, n, c] to [b, heads, n, c / heads]."""
    return tokens.unflatten(2, (heads, -1)).transpose(1, 2)


def _side(tokens: torch.Tensor, cells: int) -> int:
    side = round(tokens.shape[2] ** 0.5)
    if side * side != tokens.shape[2] or side % cells:
        raise ValueError(f"{tokens.shape[2]} places are no square grid that {cells} divides")
    return side


def _coarse(tokens: torch.Tensor) -> torch.Tensor:
    """[b, h, side², d] averaged to [b, h, COARSE², d]."""
    side = _side(tokens, COARSE)
    step = side // COARSE
    grid = tokens.unflatten(2, (COARSE, step, COARSE, step))
    return grid.mean(dim=(3, 5)).flatten(2, 3)


def _windows(tokens: torch.Tensor) -> torch.Tensor:
    """[b, h, side², d] to [b, h · windows, WINDOW², d]."""
    count = _side(tokens, WINDOW) // WINDOW
    grid = tokens.unflatten(2, (count, WINDOW, count, WINDOW))
    return grid.transpose(3, 4).flatten(4, 5).flatten(1, 3)


def _gathered(windows: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The inverse of ``_windows``."""
    count = _side(like, WINDOW) // WINDOW
    grid = windows.unflatten(1, (like.shape[1], count, count)).unflatten(4, (WINDOW, WINDOW))
    return grid.transpose(3, 4).reshape(like.shape)
