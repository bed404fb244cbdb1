"""OpenCLIP's files as CLIP of transformers: the same numbers as a plain reading of them gives, or a reason why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml.encoders.base import load_encoder
from ml.hub import AddingError
from ml.hub.layouts import read_layout
from ml.hub.open_clip import clip_config
from tests.ml.test_hf import save_tokenizer, torch

WIDTH, HEADS, LAYERS, EMBED, SIDE, PATCH, WORDS, LENGTH = 16, 2, 2, 12, 32, 16, 60, 16
MODEL = {
    "embed_dim": EMBED, "quick_gelu": True,
    "vision_cfg": {"image_size": SIDE, "layers": LAYERS, "width": WIDTH, "head_width": 8, "patch_size": PATCH},
    "text_cfg": {
        "context_length": LENGTH, "vocab_size": WORDS, "width": WIDTH, "heads": HEADS, "layers": LAYERS,
        "eos_id": 3,
    },
}  # fmt: skip


def weights() -> dict[str, Any]:
    """As OpenCLIP names them."""
    made = torch.Generator().manual_seed(0)

    def some(*shape: int) -> Any:
        return 0.3 * torch.randn(*shape, generator=made)

    state = {"visual.class_embedding": some(WIDTH), "visual.proj": some(WIDTH, EMBED)}
    state |= {"visual.positional_embedding": some((SIDE // PATCH) ** 2 + 1, WIDTH)}
    state |= {"visual.conv1.weight": some(WIDTH, 3, PATCH, PATCH), "text_projection": some(WIDTH, EMBED)}
    state |= {"token_embedding.weight": some(WORDS, WIDTH), "positional_embedding": some(LENGTH, WIDTH)}
    norms = ["visual.ln_pre", "visual.ln_post", "ln_final"]
    for stem in (f"{tower}transformer.resblocks.{n}" for tower in ("visual.", "") for n in range(LAYERS)):
        norms += [f"{stem}.ln_1", f"{stem}.ln_2"]
        state |= {
            f"{stem}.attn.in_proj_weight": some(3 * WIDTH, WIDTH),
            f"{stem}.attn.in_proj_bias": some(3 * WIDTH),
        }
        products = {
            "attn.out_proj": (WIDTH, WIDTH),
            "mlp.c_fc": (4 * WIDTH, WIDTH),
            "mlp.c_proj": (WIDTH, 4 * WIDTH),
        }
        for name, (out, into) in products.items():
            state |= {f"{stem}.{name}.weight": some(out, into), f"{stem}.{name}.bias": some(out)}
    for name in norms:
        state |= {f"{name}.weight": 1 + some(WIDTH), f"{name}.bias": some(WIDTH)}
    return state | {"logit_scale": torch.tensor(2.0)}


def write(folder: Path, state: dict[str, Any], **changes: Any) -> Path:
    from safetensors.torch import save_file

    folder.mkdir()
    save_file(state, folder / "open_clip_model.safetensors")
    config = {
        "model_cfg": MODEL | changes,
        "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_tokenizer(folder)
    return folder


class Reading:
    """The network as OpenCLIP runs it (transformer.py), from its own names, with torch's own attention."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def norm(self, name: str, rows: Any) -> Any:
        return torch.nn.functional.layer_norm(
            rows, (WIDTH,), self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        )

    def line(self, name: str, rows: Any) -> Any:
        return rows @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def blocks(self, tower: str, rows: Any, mask: Any = None) -> Any:
        for number in range(LAYERS):
            stem = f"{tower}transformer.resblocks.{number}"
            attention = torch.nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).eval()
            part = f"{stem}.attn."
            attention.load_state_dict(
                {k.removeprefix(part): v for k, v in self.state.items() if k.startswith(part)}
            )
            seen = self.norm(f"{stem}.ln_1", rows)
            rows = rows + attention(seen, seen, seen, need_weights=False, attn_mask=mask)[0]
            inner = self.line(f"{stem}.mlp.c_fc", self.norm(f"{stem}.ln_2", rows))
            rows = rows + self.line(f"{stem}.mlp.c_proj", inner * torch.sigmoid(1.702 * inner))
        return rows

    def picture(self, pixels: np.ndarray) -> Any:
        """Uint8 [SIDE, SIDE, 3]."""
        scaled = (torch.from_numpy(pixels) / 255 - torch.tensor([0.5, 0.4, 0.3])) / torch.tensor(
            [0.2, 0.3, 0.4]
        )
        patches = torch.nn.functional.conv2d(
            scaled.permute(2, 0, 1)[None], self.state["visual.conv1.weight"], stride=PATCH
        )
        rows = torch.cat([self.state["visual.class_embedding"][None], patches[0].flatten(1).T])
        rows = self.norm("visual.ln_pre", rows + self.state["visual.positional_embedding"])
        first = self.norm("visual.ln_post", self.blocks("visual.", rows[None])[0, 0])
        return first @ self.state["visual.proj"]

    def text(self, ids: list[int], end: int) -> Any:
        rows = self.state["token_embedding.weight"][ids] + self.state["positional_embedding"][: len(ids)]
        mask = torch.full((len(ids), len(ids)), -torch.inf).triu(1)
        return (
            self.norm("ln_final", self.blocks("", rows[None], mask)[0, end]) @ self.state["text_projection"]
        )


def test_both_towers_give_the_numbers_of_a_plain_reading(tmp_path: Path) -> None:
    state = weights()
    layout = read_layout(write(tmp_path / "open", state), tmp_path / "made")
    assert (layout.kind, layout.folder) == ("open_clip", tmp_path / "made")
    reading, unit = Reading(state), torch.nn.functional.normalize
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    with torch.inference_mode():
        wanted = unit(reading.picture(picture), dim=-1).numpy()
        # [CLS] a red apple [SEP], as the tiny tokenizer numbers them.
        read = unit(reading.text([2, 4, 7, 8, 3], end=4), dim=-1).numpy()
    found = load_encoder(f"hf:{layout.folder}#image").encode([picture])[0]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    np.testing.assert_allclose(
        load_encoder(f"hf:{layout.folder}#text").encode(["a red apple"])[0], read, atol=1e-5
    )


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"vision_cfg": {"timm_model_name": "fastvit_mci0"}}, "timm_model_name is 'fastvit_mci0'"),
        ({"vision_cfg": {"layers": [3, 4, 6, 3], "width": 64}}, "a ResNet"),
        ({"text_cfg": {"hf_model_name": "roberta-base"}}, "hf_model_name is 'roberta-base'"),
        ({"vision_cfg": {}}, "lacks 'layers'"),
        ({"embed_dim": None, "text_cfg": None}, "lacks"),
    ],
)
def test_other_networks_are_refused_with_their_name(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(AddingError, match=why):
        clip_config({"model_cfg": MODEL | changes})


def test_weights_without_a_place(tmp_path: Path) -> None:
    folder = write(tmp_path / "open", weights() | {"visual.attn_pool.query": torch.zeros(3)})
    with pytest.raises(AddingError, match=r"'visual\.attn_pool\.query' have no place"):
        read_layout(folder, tmp_path / "made")
