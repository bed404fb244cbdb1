"""The embedded picture model: what the shipped weights draw, what any prompt does, and how training goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ml.drawing.conditioning import CONDITION, STYLES, prompt_vectors
from ml.drawing.drawer import Drawer, DrawingError, anchored
from ml.drawing.network import Shape, flow_of, planes, rgb_of, whole
from ml.drawing.packing import SHIPPED, unpack
from research.drawing.networks import fit_basis, flow_class, pack


@pytest.fixture(scope="module")
def drawer() -> Drawer:
    return Drawer.load()


def test_a_drawing_has_its_size_and_is_the_same_for_the_same_seed(drawer: Drawer) -> None:
    drawn = drawer.draw(["rocket", "rocket", "rocket"], seeds=[4, 4, 5], steps=6)
    assert drawn.shape == (3, 64, 64, 3)
    assert drawn.dtype == np.uint8
    assert np.array_equal(drawn[0], drawer.draw(["rocket"], seeds=[4], steps=6)[0]) or _near(
        drawn[0], drawer.draw(["rocket"], seeds=[4], steps=6)[0]
    )
    assert _near(drawn[0], drawn[1])
    assert not _near(drawn[0], drawn[2])


def test_nothing_asked_nothing_drawn(drawer: Drawer) -> None:
    assert drawer.draw([], seeds=[]).shape == (0, 64, 64, 3)


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        " ",
        "a" * 200_000,
        "🍎🐳",
        "一只戴帽子的猫",
        "\x00\x1b[31m\u202e\ud800",
        "'; DROP TABLE assets; --",
    ],
)
def test_any_prompt_gives_a_drawing(drawer: Drawer, prompt: str) -> None:
    drawn = drawer.draw([prompt], seeds=[2**70], steps=2, negative=[prompt])
    assert drawn.std() > 0


def test_what_does_not_fit_is_refused(drawer: Drawer) -> None:
    with pytest.raises(ValueError, match="step"):
        drawer.draw(["cat"], seeds=[1], steps=0)
    with pytest.raises(ValueError, match="seed"):
        drawer.draw(["cat"], seeds=[])
    with pytest.raises(ValueError, match="style"):
        drawer.draw(["cat"], seeds=[1], styles=["photo"])


def test_a_watcher_sees_every_step_and_may_stop(drawer: Drawer) -> None:
    class Stopped(Exception):
        pass

    seen: list[tuple[int, int, bool]] = []

    def watch(done: int, total: int, shown: object) -> None:
        seen.append((done, total, shown is not None))
        if done == 5:
            raise Stopped

    with pytest.raises(Stopped):
        drawer.draw(["cat"], seeds=[1], steps=10, watch=watch)
    assert [done for done, _, _ in seen] == [1, 2, 3, 4, 5]
    assert seen[-1] == (5, 10, True)


def test_guidance_and_a_negative_prompt_change_the_drawing(drawer: Drawer) -> None:
    def once(**options: object) -> np.ndarray:
        return drawer.draw(["heart"], seeds=[3], steps=8, **options)[0]

    assert not _near(once(), once(guidance=1.0))
    assert not _near(once(), once(negative=["red"]))
    assert _near(once(), once(negative=[" "]))


@pytest.mark.slow
def test_the_shipped_weights_draw_what_is_asked_for(drawer: Drawer) -> None:
    """Means over seeds and styles, of things with a colour of their own; weights that ignore the words fail."""
    asked = {"red heart": (0, 2), "green heart": (1, 0), "blue heart": (2, 0), "fire engine": (0, 1)}
    for prompt, (more, less) in asked.items():
        drawn = drawer.draw([prompt] * 5, seeds=range(5), styles=STYLES).astype(float)
        means = drawn.mean(axis=(0, 1, 2))
        assert means[more] > means[less] + 8, prompt


def test_shapes_are_drawn_too(drawer: Drawer) -> None:
    """Each drawing is nearer to one of the same thing with another seed than to those of most other things."""
    things = [
        "red heart",
        "rocket",
        "penguin",
        "bicycle",
        "green square",
        "castle",
        "full moon",
        "fire engine",
    ]
    one, other = (
        drawer.draw(things, seeds=range(start, start + len(things)), styles=["twemoji"] * len(things))
        for start in (0, 100)
    )
    gaps = ((one[:, None].astype(float) - other[None]) ** 2).mean(axis=(2, 3, 4))
    nearest = gaps.argmin(axis=1)
    assert (nearest == np.arange(len(things))).sum() >= 6


def test_the_shipped_weights_are_small_and_say_how_they_were_made(drawer: Drawer) -> None:
    assert SHIPPED.stat().st_size <= 9 * 2**20
    assert drawer.version.startswith("drawing-")
    assert drawer.about["plan"]["consistency"] > 0


def test_packing_keeps_what_the_network_says(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    shape = Shape(latent=12, hidden=32, wished=16, blocks=2)
    module = flow_class()(shape)
    torch.nn.init.normal_(module.leave.weight, std=0.1)
    basis = fit_basis(np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), np.uint8), 12)
    weights = {name: value.numpy() for name, value in module.state_dict().items()}
    pack(tmp_path / "w.safetensors", weights, basis, {"steps": 3})
    packed = unpack(tmp_path / "w.safetensors")
    assert packed.about == {"steps": 3}
    assert not basis.components.flags.c_contiguous  # As it is fitted, which the file's order is not.
    assert np.allclose(packed.basis.components, basis.components, atol=0.005 * np.abs(basis.components).max())
    chance = np.random.default_rng(1)
    x, wishes = chance.normal(size=(5, 12)).astype("f4"), chance.normal(size=(5, CONDITION)).astype("f4")
    times = np.linspace(0, 1, 5, dtype=np.float32)
    with torch.inference_mode():
        meant = module(*(torch.from_numpy(part) for part in (x, times, wishes))).numpy()
    assert np.allclose(flow_of(weights)(x, times, wishes), meant, atol=1e-4)
    assert np.abs(flow_of(packed.weights)(x, times, wishes) - meant).max() < 0.05 * np.abs(meant).max()


def test_what_was_learnt_stays_and_the_rest_becomes_a_mixture() -> None:
    names = prompt_vectors(["dog", "castle", "rocket"])
    same = anchored(names, names)
    assert np.abs(same - names).max() < 0.05
    puppy, fortress, red = anchored(prompt_vectors(["puppy", "fortress", "red rocket"]), names)
    gaps = [np.linalg.norm(names - one, axis=1) for one in (puppy, fortress)]
    assert [gap.argmin() for gap in gaps] == [0, 1]
    colours = slice(384 + 116, 384 + 127)
    assert np.array_equal(red[colours], prompt_vectors(["red rocket"])[0][colours])
    assert anchored(names[:0], names).shape == (0, names.shape[1])
    assert np.array_equal(anchored(names, names[:0]), names)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    for name, content in (("cut", SHIPPED.read_bytes()[:1000]), ("empty", b""), ("other", b"\x00" * 64)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DrawingError):
            Drawer.load(tmp_path / name)
    with pytest.raises(DrawingError):
        Drawer.load(tmp_path / "absent")


def test_planes_and_back() -> None:
    smooth = np.repeat(np.repeat(np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)), 8, 1), 8, 2).astype(
        "u1"
    )
    assert np.abs(whole(rgb_of(planes(smooth))).astype(float) - smooth).mean() < 12
    grey = np.full((1, 64, 64, 3), 77, np.uint8)
    assert np.abs(whole(rgb_of(planes(grey))).astype(float) - 77).max() <= 1


def _near(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal but for the last bit of sums in another order."""
    return bool(np.abs(one.astype(int) - other.astype(int)).max() <= 2)
