"""Detectors that bring a model by configuration, with tiny random models made here, and without a network."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml.auditing.calibration import Calibration
from ml.detectors.base import Finding, Item, VideoFrame, load_detector

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOWER = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
SIZE = {"height": 32, "width": 32}
#: Probability over score: a half at .5, thresholds at .6 and .9.
STEEP = Calibration("platt", ((10.0, -5.0), (9.0, -5.0), (11.0, -5.0)), 0.9, 0.6, 0.01, 0.05, 500, 0.5)


def save_image_model(folder: Path, labels: tuple[str, ...], logits: tuple[float, ...] | None = None) -> Path:
    """A small ViT; with ``logits`` one that answers these for every picture."""
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        **TOWER, image_size=32, patch_size=16,
        id2label=dict(enumerate(labels)), label2id={name: at for at, name in enumerate(labels)},
    )  # fmt: skip
    model = transformers.ViTForImageClassification(config)
    if logits is not None:
        torch.nn.init.zeros_(model.classifier.weight)
        model.classifier.bias.data = torch.tensor(logits)
    model.save_pretrained(folder)
    transformers.ViTImageProcessor(size=SIZE).save_pretrained(folder)
    return folder


def save_sound_model(folder: Path, labels: tuple[str, ...] = ("bonafide", "spoof")) -> Path:
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, conv_dim=(8, 8),
        conv_kernel=(10, 3), conv_stride=(5, 2), num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
        classifier_proj_size=8, num_feat_extract_layers=2, vocab_size=8,
        id2label=dict(enumerate(labels)), label2id={name: at for at, name in enumerate(labels)},
    )  # fmt: skip
    transformers.Wav2Vec2ForSequenceClassification(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=8_000).save_pretrained(folder)
    return folder


def save_onnx(folder: Path, *, scale: float = 8.0) -> Path:
    """A network of two outputs, 0 and ``scale`` times the mean of its input."""
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "one"], ["column"]),
        helper.make_node("Mul", ["column", "weights"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "brightness",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [
            helper.make_tensor("one", TensorProto.INT64, [1], [1]),
            helper.make_tensor("weights", TensorProto.FLOAT, [1, 2], [0.0, scale]),
        ],
    )  # fmt: skip
    folder.mkdir(exist_ok=True)
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def picture(value: int | None = None, side: int = 64) -> Item:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    if value is not None:
        pixels = np.full((side, side, 3), value, np.uint8)
    return Item("image", "image/png", pixels=pixels, width=side, height=side)


def film(values: list[int]) -> Item:
    shots = [VideoFrame(float(at), np.full((32, 32, 3), value, np.uint8)) for at, value in enumerate(values)]
    return Item("video", "video/mp4", shots=shots, duration_s=float(len(values)))


def raw(finding: Finding) -> float:
    return float(next(seen["score"] for seen in finding.evidence if seen["kind"] == "score"))


def calibrated(folder: Path, calibration: Calibration = STEEP) -> str:
    path = folder / "calibration.json"
    path.write_text(calibration.dumps())
    return f"calibration={path}"


def test_a_picture_gets_the_models_own_probability(tmp_path: Path) -> None:
    folder = save_image_model(tmp_path, ("real", "artificial", "painting"))
    item = picture()
    from PIL import Image

    model = transformers.ViTForImageClassification.from_pretrained(folder).eval()
    feed = transformers.AutoImageProcessor.from_pretrained(folder)(
        images=[Image.fromarray(item.pixels)], return_tensors="pt"
    )
    with torch.inference_mode():
        expected = model(**feed).logits.softmax(-1)[0].numpy()
    for labels, columns in (("", [1]), ("#Artificial", [1]), ("#artificial+painting", [1, 2]), ("#0", [0])):
        detector = load_detector(f"hf-image:{folder}{labels}")
        assert detector.missing() == ""
        assert raw(detector.examine(item)) == pytest.approx(expected[columns].sum(), abs=2e-4)


def test_without_a_calibration_nothing_is_claimed(tmp_path: Path) -> None:
    folder = save_image_model(tmp_path, ("real", "fake"), (0.0, 20.0))
    finding = load_detector(f"hf-image:{folder}").examine(picture())
    assert (finding.state, finding.synthetic, finding.interval, finding.above) == (
        "examined",
        None,
        None,
        None,
    )
    assert finding.evidence[0] == {"kind": "score", "score": 1.0, "calibrated": False}
    assert "calibration" in finding.reason


@pytest.mark.parametrize(
    ("logit", "above"), [(5.0, "likely"), (1.0, "band"), (-2.0, "none")]
)  # .993, .731, .119
def test_a_calibration_gives_probability_interval_and_place(tmp_path: Path, logit: float, above: str) -> None:
    folder = save_image_model(tmp_path, ("real", "fake"), (0.0, logit))
    finding = load_detector(f"hf-image:{folder}?{calibrated(tmp_path)}").examine(picture())
    score = 1 / (1 + np.exp(-logit))
    assert finding.above == above
    assert finding.synthetic == pytest.approx(STEEP.probability(score), abs=1e-6)
    assert finding.interval == pytest.approx(STEEP.interval(score), abs=1e-6)
    assert finding.evidence[0]["calibration"] == STEEP.version


def test_films_need_three_frames_in_a_row(tmp_path: Path) -> None:
    """The ONNX network answers by brightness: white frames are 'synthetic'."""
    spec = f"onnx-image:{save_onnx(tmp_path)}#1?mean=0,0,0&std=1,1,1&{calibrated(tmp_path)}"
    detector = load_detector(spec)
    single = detector.examine(film([255, 0] * 6))
    assert (single.above, [seen["kind"] for seen in single.evidence].count("stretch")) == ("band", 0)
    run = detector.examine(film([0, 0, 255, 255, 255, 0, 0, 0]))
    assert run.above == "likely"
    assert {"kind": "stretch", "start_s": 2.0, "end_s": 4.0, "frames": 3} in list(run.evidence)
    assert detector.examine(film([0] * 12)).above == "none"
    assert detector.examine(film([255, 255])).state == "abstained"


def test_onnx_scores_and_options(tmp_path: Path) -> None:
    path = save_onnx(tmp_path)
    options = "mean=0,0,0&std=1,1,1"
    found = raw(load_detector(f"onnx-image:{path}#1?{options}").examine(picture(128)))
    assert found == pytest.approx(1 / (1 + np.exp(-8 * 128 / 255)), abs=1e-3)
    named = load_detector(f"onnx-image:{path}#fake?{options}&labels=real,fake").examine(picture(128))
    assert raw(named) == found
    assert raw(load_detector(f"onnx-image:{path}#0?{options}").examine(picture(128))) == pytest.approx(
        1 - found, abs=1e-3
    )
    with pytest.raises(ValueError, match="which label means synthetic"):
        load_detector(f"onnx-image:{path}").examine(picture())
    with pytest.raises(ValueError, match="2 outputs"):
        load_detector(f"onnx-image:{path}?labels=a,b,c").examine(picture())
    with pytest.raises(ValueError, match="no option"):
        load_detector(f"onnx-image:{path}?colour=red")


def test_onnx_takes_the_exporters_preprocessing(tmp_path: Path) -> None:
    path = save_onnx(tmp_path)
    transformers.ViTImageProcessor(
        size={"height": 16, "width": 16}, image_mean=[0.0] * 3, image_std=[2.0] * 3
    ).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "human", "1": "ai_generated"}}))
    found = raw(load_detector(f"onnx-image:{path}").examine(picture(255)))
    assert found == pytest.approx(1 / (1 + np.exp(-4)), abs=1e-3)


def test_a_sound_is_heard_at_the_models_rate(tmp_path: Path) -> None:
    folder = save_sound_model(tmp_path)
    rng = np.random.default_rng(0)
    low = np.cumsum(rng.normal(0, 1, 16_000 * 9)).astype(np.float32)
    low = (low - low.mean()) / np.abs(low).max() * 0.5
    detector = load_detector(f"hf-sound:{folder}?seconds=3")
    finding = detector.examine(Item("audio", "audio/wav", sound=low, duration_s=9.0))
    stretches = [seen for seen in finding.evidence if seen["kind"] == "stretch"]
    assert sorted(seen["start_s"] for seen in stretches) == [0.0, 3.0, 6.0]
    from ml.auditing.speech_features import resample

    model = transformers.Wav2Vec2ForSequenceClassification.from_pretrained(folder).eval()
    extract = transformers.Wav2Vec2FeatureExtractor.from_pretrained(folder)
    part = resample(low[: 3 * 16_000], 16_000, 8_000)
    assert len(part) == 3 * 8_000
    with torch.inference_mode():
        feed = extract(part, sampling_rate=8_000, return_tensors="pt")
        expected = model(**feed).logits.softmax(-1)[0, 1]
    first = next(seen["score"] for seen in stretches if seen["start_s"] == 0)
    assert first == pytest.approx(float(expected), abs=2e-4)


def test_sounds_that_say_nothing(tmp_path: Path) -> None:
    detector = load_detector(f"hf-sound:{save_sound_model(tmp_path)}")
    empty = detector.examine(Item("video", "video/mp4"))
    silent = detector.examine(Item("audio", "audio/wav", sound=np.zeros(64_000, np.float32)))
    short = detector.examine(Item("audio", "audio/wav", sound=np.full(8_000, 0.1, np.float32)))
    assert [empty.state, silent.state, short.state] == ["not_applicable", "abstained", "abstained"]


def test_faces_are_examined_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_image_model(tmp_path, ("real", "fake"), (0.0, 20.0))
    detector = load_detector(f"hf-face:{folder}?{calibrated(tmp_path)}")
    assert detector.examine(picture()).state == "not_applicable"
    assert detector.examine(film([0, 50, 100, 200])).state == "not_applicable"
    from ml.detectors import hf_face

    monkeypatch.setattr(hf_face, "faces", lambda pixels: [(10, 10, 30, 30), (5, 5, 10, 10)])
    finding = detector.examine(picture())
    assert finding.above == "likely"
    assert [seen["box"] for seen in finding.evidence if seen["kind"] == "face"] == [
        [10, 10, 30, 30],
        [5, 5, 10, 10],
    ]
    assert detector.examine(film([0, 50, 100, 200])).above == "likely"


def test_the_face_cascade_is_there() -> None:
    from ml.detectors.hf_face import crop, faces

    blank = np.full((200, 200, 3), 128, np.uint8)
    assert faces(blank) == []
    assert crop(blank, (150, 0, 50, 50)).shape == (65, 65, 3)


def test_picture_safety_by_labels(tmp_path: Path) -> None:
    folder = save_image_model(tmp_path, ("normal", "nsfw", "porn", "gore"), (0.0, 1.0, 2.0, -1.0))
    detector = load_detector(f"picture-safety:hf:{folder}#nsfw=nudity,porn=nudity,gore=violence")
    assert detector.missing() == ""
    assert detector.categories == ("nudity", "violence")
    shares = np.exp([0.0, 1.0, 2.0, -1.0]) / np.exp([0.0, 1.0, 2.0, -1.0]).sum()
    for item in (picture(), film([0, 10, 20, 30])):
        found = detector.examine(item).categories
        assert found["nudity"].score == pytest.approx(shares[1] + shares[2], abs=1e-3)
        assert found["violence"].score == pytest.approx(shares[3], abs=1e-3)
        assert not found["nudity"].calibrated
    tuned = load_detector(f"picture-safety:hf:{folder}#nsfw=nudity?{calibrated(tmp_path)}")
    assert tuned.examine(picture()).categories["nudity"].calibrated
    assert tuned.estimates == ""


def test_picture_safety_is_off_unless_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    from ml.detectors import picture_safety

    monkeypatch.setattr(picture_safety, "find_spec", lambda name: None)
    detector = load_detector("picture-safety")
    assert "crosslight[nudity]" in detector.missing()
    assert detector.categories == ("nudity",)
    with pytest.raises(ValueError, match="LABEL=CATEGORY"):
        load_detector("picture-safety:hf:/models/x#nsfw=fun")
    with pytest.raises(ValueError, match="takes hf:"):
        load_detector("picture-safety:/models/x")


def test_scenes_count_and_single_frames_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ml.detectors.picture_safety import HfSafety, PictureSafety

    def look(self: Any, pixels: np.ndarray) -> tuple[dict[str, float], list[dict[str, Any]]]:
        return {"nudity": float(pixels[0, 0, 0]) / 255}, []

    monkeypatch.setattr(HfSafety, "look", look)
    detector = PictureSafety("hf:/models/x#nsfw=nudity")
    assert detector.examine(film([0, 255, 0, 0, 255, 0, 0])).categories["nudity"].score == 0
    scene = detector.examine(film([0, 0, 255, 255, 255, 0, 0])).categories["nudity"]
    assert scene.score == 1
    assert scene.evidence[0] == {"kind": "stretch", "start_s": 2.0, "end_s": 4.0, "frames": 3}


def test_versions_follow_the_weights(tmp_path: Path) -> None:
    first = load_detector(
        f"hf-image:{save_image_model(tmp_path / 'a', ('real', 'fake'), (0.0, 1.0))}"
    ).version
    again = load_detector(
        f"hf-image:{save_image_model(tmp_path / 'b', ('real', 'fake'), (0.0, 1.0))}"
    ).version
    other = load_detector(
        f"hf-image:{save_image_model(tmp_path / 'c', ('real', 'fake'), (0.0, 2.0))}"
    ).version
    assert first == again != other
    spec = f"hf-image:{tmp_path / 'a'}?{calibrated(tmp_path)}"
    before = load_detector(spec).version
    calibrated(tmp_path, Calibration("platt", ((9.0, -5.0),), 0.9, 0.6, 0.01, 0.05, 500, 0.5))
    assert load_detector(spec).version not in (before, first)


@pytest.mark.parametrize("kind", ["hf-image", "hf-face", "hf-sound", "onnx-image", "picture-safety:hf"])
def test_what_is_missing_is_told_and_not_fetched(kind: str) -> None:
    labels = "#nsfw=nudity" if kind == "picture-safety:hf" else ""
    assert "on this machine" in load_detector(f"{kind}:/no/such/model{labels}").missing()
    assert "on this machine" in load_detector(f"{kind}:crosslight-tests/no-such-model{labels}").missing()


def test_pickles_are_refused(tmp_path: Path) -> None:
    folder = save_image_model(tmp_path, ("real", "fake"))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "safetensors" in load_detector(f"hf-image:{folder}").missing()


def test_an_untrained_head_is_refused(tmp_path: Path) -> None:
    folder = save_image_model(tmp_path, ("real", "fake"))
    config = transformers.ViTConfig.from_pretrained(folder)
    transformers.ViTModel(config).save_pretrained(folder)
    with pytest.raises(RuntimeError, match="no trained classifier"):
        load_detector(f"hf-image:{folder}").examine(picture())


def test_labels_that_do_not_tell(tmp_path: Path) -> None:
    folder = save_image_model(tmp_path, ("cat", "dog"))
    with pytest.raises(ValueError, match="the model has cat, dog"):
        load_detector(f"hf-image:{folder}").examine(picture())
    with pytest.raises(ValueError, match="no label 'bird'"):
        load_detector(f"hf-image:{folder}#bird").examine(picture())


def test_a_damaged_calibration_is_missing(tmp_path: Path) -> None:
    folder = save_image_model(tmp_path, ("real", "fake"))
    (tmp_path / "broken.json").write_text("{}")
    assert (
        "not a calibration"
        in load_detector(f"hf-image:{folder}?calibration={tmp_path / 'broken.json'}").missing()
    )
    assert (
        "cannot be read" in load_detector(f"hf-image:{folder}?calibration={tmp_path / 'none.json'}").missing()
    )


@pytest.mark.parametrize("kind", ["hf-image", "hf-face", "hf-sound", "onnx-image"])
def test_a_model_must_be_named(kind: str) -> None:
    with pytest.raises(ValueError, match="needs a"):
        load_detector(kind)


@pytest.mark.slow
def test_they_run_where_detectors_run(tmp_path: Path) -> None:
    """In the examining process, which may neither write nor connect; and a recording is no failure to see."""
    from PIL import Image

    from ml.auditing.examiner import Examiner, Subject

    still, sound = tmp_path / "photo.png", tmp_path / "sound.wav"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)).save(still)
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((np.random.default_rng(0).normal(0, 3_000, 48_000)).astype("<i2").tobytes())
    image, heard = save_image_model(tmp_path / "a", ("real", "fake")), save_sound_model(tmp_path / "b")
    specs = [
        f"hf-image:{image}", f"hf-face:{image}", f"hf-sound:{heard}", f"picture-safety:hf:{image}#fake=nudity",
        f"onnx-image:{save_onnx(tmp_path / 'c')}#1",
    ]  # fmt: skip
    examiner = Examiner()
    try:
        seen = examiner.examine(Subject("image", "image/png", still), specs).parts
        listened = examiner.examine(Subject("audio", "audio/wav", sound), specs).parts
    finally:
        examiner.close()
    states = {part.spec.split(":")[0]: part.finding.state for part in seen}
    assert states == {
        "hf-image": "examined", "hf-face": "not_applicable", "picture-safety": "examined", "onnx-image": "examined",
    }  # fmt: skip
    states = {part.spec.split(":")[0]: part.finding.state for part in listened}
    assert states["hf-sound"] == "examined"
    assert set(states.values()) == {"examined", "not_applicable"}
