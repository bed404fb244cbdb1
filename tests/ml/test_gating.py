"""The gate: what it does to weights, what it refuses to load, and that a fit finds what there is to find."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ml.alignment import gate_fitting
from ml.alignment.confidence import SIGNS, of_picture, of_speech, of_words
from ml.alignment.gate_fitting import Examples, Settings
from ml.alignment.gating import (
    INPUTS,
    LIMIT,
    PARTS,
    SHIPPED,
    Gate,
    GateError,
    Part,
    inputs_of,
    pack,
    unpack,
    write_gate,
)
from research.alignment.corruptions import PICTURES, SOUNDS

RANDOM = np.random.default_rng(0)
BY_HAND = Path(__file__).with_name("gate_by_hand.npz")


def towards(seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).standard_normal(256).astype(np.float32)
    return vector / np.linalg.norm(vector)


def photo() -> np.ndarray:
    """Something with edges, shades and fine detail."""
    y, x = np.mgrid[0:240, 0:320]
    shade = 128 + 60 * np.sin(x / 17) + 40 * np.cos(y / 11) + 20 * ((x // 8 + y // 8) % 2)
    return np.stack([shade, shade * 0.8, 255 - shade], axis=-1).clip(0, 255).astype(np.uint8)


# --- Confidence --------------------------------------------------------------------------------------------


def test_what_is_known_of_a_picture_has_the_names_that_the_gate_reads() -> None:
    signs = of_picture(photo(), np.full(1000, 0.001, np.float32))
    assert sorted(signs) == sorted(SIGNS["image"])
    assert signs["entropy"] == pytest.approx(np.log(1000), abs=1e-3)
    assert set(of_picture(photo())) < set(signs), "without probabilities it says less, not something else"


def test_blur_noise_and_darkness_show() -> None:
    clean, random = of_picture(photo()), np.random.default_rng(1)
    blurred, noisy, dark = (
        of_picture(PICTURES[kind](photo(), 0.5, random)) for kind in ("blur", "noise", "darken")
    )
    assert blurred["sharpness"] < clean["sharpness"] - 1
    assert noisy["noise"] > clean["noise"] + 1
    assert dark["dark"] > 0.2 > clean["dark"]
    assert dark["brightness"] < clean["brightness"] / 2


def test_words_that_nobody_knows_show() -> None:
    assert of_words("a red apple") == pytest.approx(
        {"words": np.log(4), "word_length": np.log(3), "vowels": 4 / 9, **_unknown("a red apple", 0)}
    )
    assert set(of_words("一只猫")) == {"words"}, "nothing is said of letters that it cannot judge"
    assert of_words("") == {"words": 0.0}


def _unknown(text: str, share: float) -> dict[str, float]:
    return {"unknown": share} if "unknown" in of_words(text) else {}


def test_speech_that_was_clipped_shows_and_no_samples_do_no_harm() -> None:
    voice = (0.1 * np.sin(np.arange(16_000) / 20)).astype(np.float32)
    clipped = of_speech(SOUNDS["clip"](voice, 1.0, RANDOM), "a red apple", 0.5)
    assert clipped["clipped"] > 0.5 > of_speech(voice, "a red apple", 0.5)["clipped"]
    assert clipped["hearing"] == pytest.approx(np.log(0.5))
    assert set(clipped) >= set(SIGNS["audio"]) - {"unknown"}
    assert np.isfinite(list(of_speech(np.zeros(0, np.float32), "", 0.0).values())).all()


# --- Weighing ----------------------------------------------------------------------------------------------


def test_what_cannot_be_compared_keeps_the_prior() -> None:
    gate = Gate.load()
    for parts, prior in (
        (["text"], {"text": 3.0}),
        (["text", "vector"], {"text": 1.0, "vector": 3.0}),
        (["like", "video"], {"like": 1.0, "video": 1.0}),
        (["text", "image"], {"text": 1.0, "image": 0.0}),
    ):
        found = gate.weigh({name: Part(towards(1)) for name in parts}, prior)
        total = sum(prior.values())
        assert found.weights == pytest.approx({name: prior[name] / total for name in parts})
        assert set(found.factors.values()) == {1.0}


def test_the_shipped_gate_trusts_a_spoilt_picture_less() -> None:
    gate, text = Gate.load(), Part(towards(1), of_words("a granny smith apple"))
    sure = np.full(1000, 1e-4, np.float32)
    sure[3] = 0.9
    clean = Part(towards(2), of_picture(photo(), sure))
    spoilt = Part(
        towards(2), of_picture(PICTURES["blur"](photo(), 0.8, RANDOM), np.full(1000, 0.001, np.float32))
    )
    weights = [gate.weigh({"text": text, "image": one}, {"text": 1, "image": 1}) for one in (clean, spoilt)]
    assert weights[1].weights["image"] < weights[0].weights["image"] - 0.1
    assert sum(weights[1].weights.values()) == pytest.approx(1)
    assert ("image", "sharpness", False) in [
        (r.part, r.sign, r.high) for r in gate.remarks({"image": spoilt})
    ]


def test_the_prior_still_counts_and_corrections_are_bounded() -> None:
    gate = Gate.load()
    strange = {"sharpness": 1e9, "entropy": -1e9}
    parts = {"text": Part(towards(1)), "image": Part(towards(2), strange)}
    for image in (0.5, 0.9):
        found = gate.weigh(parts, {"text": 1 - image, "image": image})
        assert all(np.exp(-LIMIT) <= factor <= np.exp(LIMIT) for factor in found.factors.values())
        odds = found.weights["image"] / found.weights["text"]
        factors = found.factors["image"] / found.factors["text"]
        assert odds == pytest.approx(image / (1 - image) * factors)


def test_inputs_say_what_is_not_known() -> None:
    values = dict(
        zip(
            INPUTS,
            inputs_of({"text": Part(towards(1), {"words": 2.0}), "audio": Part(towards(1))}),
            strict=True,
        )
    )
    assert (values["has_text"], values["has_image"], values["has_audio"]) == (1, 0, 1)
    assert values["agree_text_audio"] == pytest.approx(1, abs=1e-5)
    assert values["text_words"] == 2.0
    assert np.isnan([values["agree_text_image"], values["text_unknown"], values["image_sharpness"]]).all()


# --- Files -------------------------------------------------------------------------------------------------


def test_a_gate_survives_its_file(tmp_path: Path) -> None:
    network = Gate.load().network
    write_gate(tmp_path, network, {"id": "gate", "version": "9"})
    again = Gate.load(tmp_path)
    assert (again.id, again.version) == ("gate", "9")
    assert pack(again.network) == pack(network)
    assert (tmp_path / "gate.safetensors").stat().st_size < 32_768


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    write_gate(tmp_path, Gate.load().network, {"id": "gate", "version": "1"})
    weights = tmp_path / "gate.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(GateError, match="damaged"):
        Gate.load(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(GateError, match="no gate"):
        Gate.load(tmp_path)
    with pytest.raises(GateError, match="no gate"):
        Gate.load(tmp_path / "nowhere")


def test_tensors_that_do_not_fit_are_refused() -> None:
    from safetensors.numpy import load, save

    arrays = load(pack(Gate.load().network))
    for change, told in (
        ({"inner": arrays["inner"][:-1].copy()}, "inner"),
        ({"mean": arrays["mean"].astype(np.float64)}, "float64"),
        ({"outer_bias": np.full(3, np.nan, np.float32)}, "not finite"),
        ({"more": np.zeros(1, np.float32)}, "more"),
    ):
        with pytest.raises(GateError, match=told):
            unpack(save({**arrays, **change}))
    with pytest.raises(GateError, match="no safetensors"):
        unpack(b"\x80\x04pickle")


def test_the_manifest_names_what_it_was_trained_on() -> None:
    manifest = json.loads((SHIPPED / "manifest.json").read_text())
    assert {"id", "version", "sha256", "bytes"} <= set(manifest)


# --- Fitting -----------------------------------------------------------------------------------------------


def examples(count: int, seed: int) -> Examples:
    """Where a picture is blurred its scores mean nothing, else those of the words do."""
    random = np.random.default_rng(seed)
    blurred = random.random(count) < 0.5
    inputs = np.full((count, len(INPUTS)), np.nan, np.float32)
    inputs[:, INPUTS.index("has_text")] = inputs[:, INPUTS.index("has_image")] = 1
    inputs[:, INPUTS.index("image_sharpness")] = np.where(blurred, 2.0, 6.0) + random.normal(0, 0.3, count)
    scores = random.uniform(0, 0.5, (count, len(PARTS), 20)).astype(np.float32)
    scores[:, PARTS.index("audio")] = 0
    right = np.zeros((count, 20), bool)
    right[:, 0] = True
    scores[blurred, PARTS.index("text"), 0] = scores[~blurred, PARTS.index("image"), 0] = 0.55
    prior = np.zeros((count, len(PARTS)), np.float32)
    prior[:, :2] = 0.5
    return Examples(inputs, prior, scores, right, np.ones(count, np.float32))


def hits(weights: np.ndarray, found: Examples) -> float:
    return float((gate_fitting.combined(weights, found).argmax(axis=1) == 0).mean())


def test_a_fit_finds_which_part_to_trust_and_is_the_same_again() -> None:
    train, held, test = (examples(400, seed) for seed in range(3))
    start = gate_fitting.fresh(train.inputs)
    assert gate_fitting.weights_of(start, test)[:, :2] == pytest.approx(0.5)
    one, two = (gate_fitting.fit(start, train, held, Settings(epochs=30)) for _ in range(2))
    assert pack(one) == pack(two)
    before, after = (hits(gate_fitting.weights_of(network, test), test) for network in (start, one))
    assert after > 0.95 > 0.8 > before


def test_a_fit_ends_where_gradients_by_hand_did() -> None:
    """``gate_by_hand.npz``: of revision 7559e7f, whose gradients and Adam were written out in NumPy."""
    train, held, test = (examples(400, seed) for seed in range(3))
    fitted = gate_fitting.fit(gate_fitting.fresh(train.inputs), train, held, Settings(epochs=30))
    with np.load(BY_HAND) as known:
        for name, values in fitted.arrays().items():
            assert values == pytest.approx(known[name], abs=1e-5), name
        assert gate_fitting.weights_of(fitted, test)[:50] == pytest.approx(known["weights"], abs=1e-5)


def test_the_loss_is_that_of_the_weights_that_search_uses() -> None:
    batch, settings = examples(30, 5), Settings()
    batch.right[:3] = False
    network = Gate.load().network
    found = gate_fitting.combined(gate_fitting.weights_of(network, batch), batch) / settings.temperature
    powers = np.exp(found - found.max(axis=1, keepdims=True))
    share = np.where(batch.right, powers, 0).sum(axis=1)[3:] / powers.sum(axis=1)[3:]
    expected = -np.log(share).sum() / len(batch)
    assert gate_fitting.loss_of(network, batch, settings) == pytest.approx(expected, rel=1e-5)


def test_importing_the_fit_loads_no_torch(run_python: Callable[[str], str]) -> None:
    code = "import sys, ml.alignment.gate_fitting; print('torch' in sys.modules)"
    assert run_python(code).strip() == "False"
