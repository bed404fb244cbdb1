"""``hf:`` and ``torchvision:`` with tiny random models made here, and without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml.encoders.base import Encoder, EncoderUnavailable, load_encoder

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOWER = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT = {**TOWER, "vocab_size": 60, "max_position_embeddings": 16}
VISION = {**TOWER, "image_size": 32, "patch_size": 16}
SIZE = {"height": 32, "width": 32}


def save_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "dog", "cat", "red", "apple"]
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=16,
    ).save_pretrained(folder)  # fmt: skip


def clap_config(*, fused: bool) -> Any:
    """A hundred-thousandth of laion/clap-htsat-*: one layer a stage, the same shape of input."""
    audio = {
        "hidden_size": 16, "patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [2, 2],
        "num_hidden_layers": 2, "spec_size": 256, "window_size": 8, "num_mel_bins": 64, "num_classes": 4,
        "enable_fusion": fused, "fusion_type": "aff_2d" if fused else None, "enable_patch_fusion": fused,
    }  # fmt: skip
    text = {**TEXT, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    return transformers.ClapConfig(text_config=text, audio_config=audio, projection_dim=12)


def build(kind: str, folder: Path) -> Path:
    t = transformers
    torch.manual_seed(0)
    towers = {
        "text_config": {**TEXT, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0},
        "vision_config": VISION,
    }
    makers: dict[str, Any] = {
        "clip": lambda: t.CLIPModel(t.CLIPConfig(**towers, projection_dim=12)),
        "siglip": lambda: t.SiglipModel(t.SiglipConfig(**towers)),
        "clap": lambda: t.ClapModel(clap_config(fused=False)),
        "clap-fused": lambda: t.ClapModel(clap_config(fused=True)),
        "bert": lambda: t.BertModel(t.BertConfig(**TEXT)),
        "vit": lambda: t.ViTModel(t.ViTConfig(**VISION)),
        "resnet": lambda: t.ResNetModel(
            t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 20], depths=[1, 1], layer_type="basic")
        ),
    }
    makers[kind]().save_pretrained(folder)
    if kind in ("clip", "siglip", "bert", "clap", "clap-fused"):
        save_tokenizer(folder)
    if kind.startswith("clap"):
        truncation = "fusion" if kind == "clap-fused" else "rand_trunc"
        t.ClapFeatureExtractor(truncation=truncation, max_length_s=2).save_pretrained(folder)
        return folder
    processors = {"clip": "CLIPImageProcessor", "siglip": "SiglipImageProcessor", "vit": "ViTImageProcessor"}
    if kind != "bert":
        crop = {"crop_size": SIZE} if kind == "clip" else {}
        processor = getattr(t, processors.get(kind, "ViTImageProcessor"))
        size = {"shortest_edge": 32} if kind == "clip" else SIZE
        processor(size=size, **crop).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "tower", "modality", "dimension"),
    [
        ("clip", "", "image", 12), ("clip", "#text", "text", 12), ("clip", "#image", "image", 12),
        ("siglip", "", "image", 16), ("siglip", "#text", "text", 16), ("bert", "", "text", 16),
        ("vit", "", "image", 16), ("resnet", "", "image", 20),
        ("clap", "", "audio", 12), ("clap", "#audio", "audio", 12), ("clap", "#text", "text", 12),
        ("clap-fused", "", "audio", 12),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_families(tmp_path: Path, kind: str, tower: str, modality: str, dimension: int) -> None:
    encoder = load_encoder(f"hf:{build(kind, tmp_path / kind)}{tower}")
    assert (encoder.modality, encoder.dimension) == (modality, dimension)
    assert encoder.id == f"hf:{tmp_path / kind}#{modality}"
    check_contract(encoder)


def check_contract(encoder: Encoder) -> None:
    rng = np.random.default_rng(0)
    texts = ["a dog", "", "red apple " * 100, "\ud800", "消防车"]
    images = [
        rng.integers(0, 256, (*shape, 3), np.uint8) for shape in [(1, 1), (50, 20), (32, 32), (200, 300)]
    ]
    sounds = [rng.normal(0, 0.1, n).astype(np.float32) for n in (1, 1_600, 32_000, 70_001)]
    sounds += [np.zeros(8_000, np.float32), np.full(8_000, np.nan, np.float32)]
    batch: list[Any] = {"text": texts, "image": images, "audio": sounds}[encoder.modality] * 3
    vectors = encoder.encode(batch)
    assert vectors.shape == (len(batch), encoder.dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    np.testing.assert_allclose(encoder.encode(batch[1:2])[0], vectors[1], atol=1e-4)
    assert encoder.encode([]).shape == (0, encoder.dimension)
    wrong = [None, np.zeros((2, 9), np.float32), np.zeros(0, np.float32), np.zeros(9, np.int16)]
    for item in wrong:
        with pytest.raises(ValueError, match=r"a text|a picture|a sound"):
            encoder.encode([item])


def test_a_sound_reaches_clap_at_its_own_rate(tmp_path: Path) -> None:
    """Two seconds at 16 kHz are to the model the same two seconds at its 48 kHz, not two thirds of one."""
    folder = build("clap", tmp_path)
    model = transformers.ClapModel.from_pretrained(folder)
    extract = transformers.ClapFeatureExtractor.from_pretrained(folder)
    at = np.arange(2 * 48_000) / 48_000
    chirp = 0.3 * np.sin(2 * np.pi * (300 * at + 400 * at**2))
    heard = chirp[::3].astype(np.float32)
    right, wrong = (extract(sound, sampling_rate=48_000, return_tensors="pt") for sound in (chirp, heard))
    with torch.inference_mode():
        right, wrong = (
            model.eval().get_audio_features(**feed).pooler_output[0].numpy() for feed in (right, wrong)
        )
    found = load_encoder(f"hf:{folder}#audio").encode([heard])[0]
    assert np.linalg.norm(found - right) < 0.25 * np.linalg.norm(found - wrong)


def test_a_long_sound_is_the_mean_of_its_windows(tmp_path: Path) -> None:
    encoder = load_encoder(f"hf:{build('clap-fused', tmp_path)}")
    rng = np.random.default_rng(0)
    halves = [rng.normal(0, 0.1, 32_000), np.sin(np.arange(32_000) / 5)]
    first, second, both = encoder.encode(
        [part.astype(np.float32) for part in (*halves, np.concatenate(halves))]
    )
    mean = (first + second) / np.linalg.norm(first + second)
    np.testing.assert_allclose(both, mean, atol=1e-5)


def test_version_follows_the_weights(tmp_path: Path) -> None:
    folder = build("vit", tmp_path)
    before = load_encoder(f"hf:{folder}").version
    assert load_encoder(f"hf:{folder}").version == before
    model = transformers.ViTModel.from_pretrained(folder)
    with torch.no_grad():
        model.layernorm.weight += 1
    model.save_pretrained(folder)
    assert load_encoder(f"hf:{folder}").version != before


def test_a_missing_tower_is_told(tmp_path: Path) -> None:
    with pytest.raises(EncoderUnavailable):
        load_encoder(f"hf:{build('vit', tmp_path)}#text")
    with pytest.raises(EncoderUnavailable, match="no image tower, only audio and text"):
        load_encoder(f"hf:{build('clap', tmp_path / 'clap')}#image")
    with pytest.raises(EncoderUnavailable, match="no audio tower, only image and text"):
        load_encoder(f"hf:{build('clip', tmp_path / 'clip')}#audio")
    with pytest.raises(ValueError, match="#sound"):
        load_encoder(f"hf:{tmp_path}#sound")


def test_clap_without_its_feature_extractor_is_told(tmp_path: Path) -> None:
    folder = build("clap", tmp_path)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(EncoderUnavailable, match="feature extractor"):
        load_encoder(f"hf:{folder}")


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = build("vit", tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(EncoderUnavailable, match="safetensors"):
        load_encoder(f"hf:{folder}")


def test_code_from_the_repository_is_not_run(tmp_path: Path) -> None:
    folder = build("vit", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(EncoderUnavailable):
        load_encoder(f"hf:{folder}")
    assert not (tmp_path / "ran").exists()


def test_an_untrained_pooler_is_not_used(tmp_path: Path) -> None:
    folder = build("vit", tmp_path)
    config = transformers.ViTConfig.from_pretrained(folder)
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    first, second = (load_encoder(f"hf:{folder}").encode([picture]) for _ in range(2))
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_weights_of_another_model_are_told(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder = build("vit", tmp_path)
    save_file({"x": torch.zeros(1)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(EncoderUnavailable, match="lack"):
        load_encoder(f"hf:{folder}")


def test_damaged_weights_are_told(tmp_path: Path) -> None:
    folder = build("vit", tmp_path)
    (folder / "model.safetensors").write_bytes(b"\x08" + b"\0" * 20)
    with pytest.raises(EncoderUnavailable):
        load_encoder(f"hf:{folder}")


@pytest.mark.parametrize("name", ["/no/such/folder", "./nowhere", "not a valid id!", "a/b/c"])
def test_nonsense_names(name: str) -> None:
    with pytest.raises(EncoderUnavailable):
        load_encoder(f"hf:{name}")


def test_hub_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(EncoderUnavailable, match=r"HF_HOME.*network"):
        load_encoder("hf:crosslight-tests/no-such-model")


@pytest.mark.slow
def test_torchvision_from_a_file(tmp_path: Path) -> None:
    import torchvision
    from safetensors.torch import save_file

    state = torchvision.models.resnet18(weights=None).state_dict()
    torch.save(state, tmp_path / "w.pth")
    save_file(state, tmp_path / "w.safetensors")
    first = load_encoder(f"torchvision:resnet18#{tmp_path / 'w.pth'}")
    second = load_encoder(f"torchvision:resnet18#{tmp_path / 'w.safetensors'}")
    assert (first.id, first.dimension, first.modality) == ("torchvision:resnet18", 512, "image")
    picture = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    np.testing.assert_allclose(first.encode([picture]), second.encode([picture]), atol=1e-6)
    check_contract(first)


def test_torchvision_refusals(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(EncoderUnavailable, match="no weights file"):
        load_encoder(f"torchvision:resnet101#{tmp_path / 'absent'}")
    with pytest.raises(EncoderUnavailable, match="no model"):
        load_encoder("torchvision:resnet9000")
    (tmp_path / "bad.pth").write_bytes(b"no weights")
    with pytest.raises(EncoderUnavailable, match="does not hold"):
        load_encoder(f"torchvision:resnet18#{tmp_path / 'bad.pth'}")


def test_torchvision_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(EncoderUnavailable, match="local file"):
        load_encoder("torchvision:resnet101")
