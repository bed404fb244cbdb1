"""Exported encoders: close to their originals or refused, whole or absent, and free of torch."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ml.compression import export as module
from ml.compression import store
from ml.compression.export import Floors, export, parity_of
from ml.compression.quantise import ParityError
from ml.compression.store import FORMAT, ExportMissing, find_export, list_exports
from ml.compression.towers import NotExportable
from ml.encoders._onnx import wanted_providers
from ml.encoders.base import EncoderUnavailable, load_encoder
from tests.ml.test_hf import build, check_contract, torch

WORDS = ["a", "dog", "cat", "red", "apple"]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ninety different texts of the five words that the tiny tokenizer knows."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("texts")
    lines = [" ".join(rng.choice(WORDS, rng.integers(1, 9))) for _ in range(100)]
    (folder / "some.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty-three pictures of differing colours, and a file that is none."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(33):
        coarse = rng.integers(0, 256, (3, 4, 3), np.uint8)
        Image.fromarray(coarse).resize((64, 48)).save(folder / f"{number:02}.png")
    (folder / "99.png").write_bytes(b"no picture")
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where exports lie."""
    monkeypatch.setenv("CROSSLIGHT_MODELS", str(tmp_path / "models"))
    return tmp_path / "models" / "exports"


@pytest.fixture
def bert(tmp_path: Path) -> str:
    return f"hf:{build('bert', tmp_path / 'bert')}"


@pytest.mark.parametrize(
    ("kind", "tower"), [("bert", ""), ("clip", "#text"), ("siglip", "#text"), ("clip", "#image")]
)
@pytest.mark.slow
def test_families(tmp_path: Path, home: Path, texts: Path, pictures: Path, kind: str, tower: str) -> None:
    spec = f"hf:{build(kind, tmp_path / kind)}{tower}"
    export(spec, "tiny", calibration=pictures if tower == "#image" else texts)
    ours, original = load_encoder("onnx:tiny"), load_encoder(spec)
    assert (ours.id, ours.modality, ours.dimension) == ("onnx:tiny", original.modality, original.dimension)
    if ours.modality == "text":
        items: list[object] = ["a red apple", "", "dog " * 40, "消防车"]
    else:
        items = [np.asarray(Image.open(path)) for path in sorted(pictures.glob("0*.png"))]
    close = np.sum(ours.encode(items) * original.encode(items), axis=1)
    assert close.min() > 0.97
    check_contract(ours)


@pytest.mark.slow
def test_resnet_of_torchvision_in_static_int8(tmp_path: Path, home: Path, pictures: Path) -> None:
    import torchvision
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "w.safetensors")
    spec = f"torchvision:resnet18#{tmp_path / 'w.safetensors'}"
    found, tried = export(spec, "resnet18", calibration=pictures)
    assert [one.precision for one in tried if one.kept] == [found.entry["precision"]] == ["int8"]
    assert found.bytes < 14e6 < 44e6  # an eighth of the bits, and some scales
    wide = np.asarray(Image.open(pictures / "00.png").resize((300, 200)))
    assert load_encoder("onnx:resnet18").encode([wide])[0] @ load_encoder(spec).encode([wide])[0] > 0.98


def test_what_a_manifest_says(home: Path, bert: str, texts: Path) -> None:
    found, tried = export(bert, "tiny", calibration=texts)
    manifest = json.loads((home / "tiny" / "manifest.json").read_text())
    assert manifest["recipe"] == FORMAT
    assert set(manifest["files"]) == {"model.onnx", "tokenizer.json"}
    entry = manifest["models"]["encoder"]
    assert entry["parity"]["items"] == 30
    assert entry["parity"]["cosine"] == pytest.approx(tried[-1].parity.cosine, abs=1e-5)
    assert entry["source_version"] == load_encoder(bert).version
    assert list_exports() == [("tiny", entry)]
    assert found.entry == entry


def test_one_that_strays_is_refused_with_its_numbers(
    home: Path, bert: str, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "INT8_FLOORS", {"text": Floors(1.1, 0)})
    monkeypatch.setattr(module, "FP32_FLOORS", {"text": Floors(0, 1.1)})
    with pytest.raises(
        ParityError, match=r"int8: mean cosine [01]\.\d+, recall@6 .*; fp32: mean cosine 1\.0000"
    ):
        export(bert, "tiny", calibration=texts)
    assert not (home / "tiny").exists()


def test_int8_that_strays_gives_way_to_fp32(
    home: Path, bert: str, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "INT8_FLOORS", {"text": Floors(1.1, 0)})
    found, tried = export(bert, "tiny", calibration=texts)
    assert [(one.precision, one.kept) for one in tried] == [("int8", False), ("fp32", True)]
    assert found.entry["precision"] == "fp32"


def test_an_interrupted_export_is_never_seen(
    home: Path, bert: str, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_manifest", killed)
        with pytest.raises(KeyboardInterrupt):
            export(bert, "tiny", calibration=texts)
    assert list_exports() == []
    with pytest.raises(ExportMissing, match="export SPEC --name tiny"):
        find_export("tiny")
    export(bert, "tiny", calibration=texts)
    before = load_encoder("onnx:tiny").version
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_manifest", killed)
        with pytest.raises(KeyboardInterrupt):
            export(bert, "tiny", calibration=texts)
    assert load_encoder("onnx:tiny").version == before
    assert {path.name for path in home.iterdir()} == {"tiny", ".tiny.lock"}


def test_pickles_are_refused(home: Path, tmp_path: Path, texts: Path) -> None:
    folder = build("bert", tmp_path / "bert")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(EncoderUnavailable, match="safetensors"):
        export(f"hf:{folder}", "tiny", calibration=texts)
    assert not (home / "tiny").exists()


def test_what_cannot_be_exported(home: Path, tmp_path: Path, bert: str, texts: Path) -> None:
    with pytest.raises(NotExportable, match="sound"):
        export(f"hf:{build('clap', tmp_path / 'clap')}#audio", "tiny")
    with pytest.raises(NotExportable, match="on torch"):
        export("onnx:tiny", "other") if export(bert, "tiny", calibration=texts) else None
    for name in ("", "../up", "a/b", "A", ".hidden", "x" * 65):
        with pytest.raises(ValueError, match="cannot name"):
            export(bert, name, calibration=texts)
    with pytest.raises(ValueError, match="fp16"):
        export(bert, "tiny", precision="fp16")
    (tmp_path / "few").mkdir()
    with pytest.raises(ValueError, match="no text"):
        export(bert, "tiny", calibration=tmp_path / "few")
    (tmp_path / "few" / "a.txt").write_text("a\ndog\na\n")
    with pytest.raises(ValueError, match=r"2 items .* too few"):
        export(bert, "tiny", calibration=tmp_path / "few")


def rewritten(folder: Path, change: Callable[[Path], None]) -> None:
    """Change files of an export and sign the manifest anew."""
    entry = json.loads((folder / "manifest.json").read_text())["models"]
    change(folder)
    store.write_manifest(folder, FORMAT, entry)


def test_damage_and_foreign_files_are_told(home: Path, bert: str, texts: Path) -> None:
    import onnx

    def another_opset(folder: Path) -> None:
        model = onnx.load(folder / "model.onnx")
        model.opset_import[0].version = 999
        onnx.save(model, folder / "model.onnx")

    export(bert, "tiny", calibration=texts)
    rewritten(home / "tiny", another_opset)
    with pytest.raises(EncoderUnavailable, match="cannot be opened"):
        load_encoder("onnx:tiny")
    export(bert, "tiny", calibration=texts)
    model = home / "tiny" / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"!")
    with pytest.raises(EncoderUnavailable, match="not those that its manifest"):
        load_encoder("onnx:tiny")
    manifest = home / "tiny" / "manifest.json"
    manifest.write_text(manifest.read_text().replace(FORMAT, "export-99"))
    with pytest.raises(EncoderUnavailable, match="export-99"):
        load_encoder("onnx:tiny")
    with pytest.raises(ValueError, match="cannot name"):
        load_encoder("onnx:../../etc")


def test_torch_is_not_imported(home: Path, bert: str, texts: Path, run_python: Callable[[str], str]) -> None:
    export(bert, "tiny", calibration=texts)
    code = (
        "import sys; from ml.encoders.base import load_encoder;"
        "print(load_encoder('onnx:tiny').encode(['a dog']).shape, {'torch', 'transformers'} & set(sys.modules))"
    )
    assert run_python(code) == "(1, 16) set()\n"


def test_exports_survive_a_rebuild_of_the_bundled_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ml.compression import prepare

    def one(out: Path, scratch: Path) -> dict[str, object]:
        (out / "toy.onnx").write_bytes(b"x")
        return {"file": "toy.onnx", "weights": "0" * 16, "precision": "int8", "parity": 1.0}

    monkeypatch.setattr(prepare, "BUILDS", {"toy": one})
    kept = tmp_path / "models" / "exports" / "tiny" / "model.onnx"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"mine")
    assert prepare.prepare(tmp_path / "models") is True
    monkeypatch.setattr(prepare, "RECIPE", 99)
    assert prepare.prepare(tmp_path / "models") is True
    assert kept.read_bytes() == b"mine"
    # Killed between the two renames of the swap: the exports lie in the old folder.
    (tmp_path / "models").rename(tmp_path / ".models.building-dead-old")
    assert prepare.prepare(tmp_path / "models") is True
    assert kept.read_bytes() == b"mine"


def test_parity_counts_cosines_and_neighbours() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    same = parity_of(rows, rows * 3)
    assert (same.recall, same.neighbours, same.items) == (1.0, 10, 60)
    assert same.cosine == pytest.approx(1)
    mixed = parity_of(rows, rows[::-1].copy())
    assert mixed.recall < 0.5
    assert parity_of(rows, np.full_like(rows, np.nan)).cosine == 0


def test_providers_by_setting(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    import onnxruntime

    names = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.delenv("CROSSLIGHT_ONNX_PROVIDERS", raising=False)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    assert wanted_providers() == names[1:]
    monkeypatch.setenv("CROSSLIGHT_ONNX_PROVIDERS", "tensorrt, cuda,cpu")
    assert wanted_providers() == names
    monkeypatch.setenv("CROSSLIGHT_ONNX_PROVIDERS", "cpu")
    assert wanted_providers() == names[2:]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names[2:])
    monkeypatch.setenv("CROSSLIGHT_ONNX_PROVIDERS", "tensorrt,cuda,cpu")
    with caplog.at_level(logging.WARNING):
        assert wanted_providers() == names[2:]
    assert "no provider tensorrt, cuda" in caplog.text
    monkeypatch.setenv("CROSSLIGHT_ONNX_PROVIDERS", "npu")
    with pytest.raises(ValueError, match="'npu' is none of tensorrt, cuda, cpu"):
        wanted_providers()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "tower"), [("clip", "#image")])
def test_half_precision_is_computed_with_and_stays_close(
    tmp_path: Path, home: Path, texts: Path, pictures: Path, kind: str, tower: str
) -> None:
    import onnx

    spec = f"hf:{build(kind, tmp_path / kind)}{tower}"
    found, tried = export(spec, "half", calibration=pictures if tower else texts, precision="half")
    assert [(one.precision, one.kept) for one in tried] == [("half", True)]
    assert tried[0].parity.cosine > 0.999 if not tower else tried[0].parity.cosine > 0.99
    graph = onnx.load(str(found.model)).graph
    whole = onnx.TensorProto.FLOAT
    assert not [one.name for one in graph.initializer if one.data_type == whole and np.prod(one.dims) > 1]
    assert {one.type.tensor_type.elem_type for one in graph.output} == {whole}
    ours, original = load_encoder("onnx:half"), load_encoder(spec)
    items: list[object] = ["a red apple", "dog " * 4] if not tower else [np.full((60, 40, 3), 90, np.uint8)]
    assert np.sum(ours.encode(items) * original.encode(items), axis=1).min() > 0.99


def test_a_provider_that_fails_gives_way(
    home: Path, bert: str, texts: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from ml.encoders import _onnx

    found, _tried = export(bert, "tiny", calibration=texts)
    plain = _onnx._open

    def broken(content: object, providers: list[str], without: tuple[str, ...]) -> object:
        if providers[0] == "CUDAExecutionProvider":
            raise RuntimeError("libcudnn.so.9: cannot open shared object file")
        return plain(content, providers, without)

    monkeypatch.setattr(_onnx, "_open", broken)
    monkeypatch.setattr(_onnx, "wanted_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    with caplog.at_level(logging.WARNING):
        session = _onnx.open_session(found.model)
    assert _onnx.device_of(session) == "cpu"
    assert "cannot use CUDAExecutionProvider" in caplog.text
