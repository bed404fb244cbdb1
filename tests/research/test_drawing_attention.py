"""Hierarchical attention: what a place sees, that shares are learnt, and that diffusers' UNets take it."""

from __future__ import annotations

import pytest
import torch

from research.drawing.attention import _gathered, _windows, processor_class, use

SIDE, HEADS = 8, 2


def _attention() -> torch.nn.Module:
    from diffusers.models.attention_processor import Attention

    torch.manual_seed(0)
    return Attention(query_dim=16, heads=HEADS, dim_head=8)


def _out(share: float | None, tokens: torch.Tensor) -> torch.Tensor:
    attention = _attention()
    attention.set_processor(processor_class()(HEADS, share))
    return attention(tokens)


def _moved(share: float, at: int) -> torch.Tensor:
    """How much each place of the grid changes when one place does: [8, 8]."""
    tokens = torch.randn(1, SIDE * SIDE, 16)
    other = tokens.clone()
    other[0, at] += 3
    gap = (_out(share, other) - _out(share, tokens)).abs().amax(dim=2)
    return gap.reshape(SIDE, SIDE)


def test_the_local_way_sees_its_window_alone() -> None:
    moved = _moved(share=0.0, at=0)
    assert (moved[:4, :4] > 1e-6).all()
    assert moved[4:].max() < 1e-6
    assert moved[:, 4:].max() < 1e-6


def test_the_global_way_sees_everything() -> None:
    assert (_moved(share=1.0, at=0) > 1e-7).all()


def test_a_fixed_share_mixes_both_ways() -> None:
    tokens = torch.randn(2, SIDE * SIDE, 16)
    mixed = 0.7 * _out(1.0, tokens) + 0.3 * _out(0.0, tokens)
    assert torch.allclose(_out(0.7, tokens), mixed, atol=1e-5)
    assert torch.allclose(_out(None, tokens), 0.5 * _out(1.0, tokens) + 0.5 * _out(0.0, tokens), atol=1e-5)


def test_windows_and_back() -> None:
    tokens = torch.randn(2, HEADS, SIDE * SIDE, 4)
    assert torch.equal(_gathered(_windows(tokens), tokens), tokens)


def test_grids_that_do_not_fit_are_refused() -> None:
    for places in (50, 36):
        with pytest.raises(ValueError, match="grid"):
            _out(None, torch.randn(1, places, 16))


def test_a_unet_learns_its_shares() -> None:
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=3,
        out_channels=3,
        block_out_channels=(8, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=12,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    use(unet, "learnt")
    shares = [value for name, value in unet.named_parameters() if name.endswith("mix")]
    assert shares
    out = unet(torch.randn(2, 3, 16, 16), torch.tensor([1, 500]), torch.randn(2, 1, 12)).sample
    assert out.shape == (2, 3, 16, 16)
    out.square().mean().backward()
    assert all(share.grad is not None and share.grad.abs().sum() > 0 for share in shares)
