"""Preparing models: once, whole or not at all, refused when it strays from fp32."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from ml.compression import prepare as module
from ml.compression import store
from ml.compression.prepare import current_recipe, prepare
from ml.compression.quantise import ParityError
from ml.compression.store import ModelsMissing, WeightsMissing, find_model, models_dir
from standalone.progress import SHOWN
from tests.waiting import PATIENCE_S, until


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the real exports by one that writes a byte; the list counts its calls."""
    calls: list[str] = []

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        calls.append("toy")
        (scratch / "big").write_bytes(b"x")
        (out / "toy.onnx").write_bytes(b"model")
        return {"file": "toy.onnx", "weights": "abcdef0123456789", "precision": "int8", "parity": 0.999}

    monkeypatch.setattr(module, "BUILDS", {"toy": build})
    monkeypatch.setattr(module, "OPTIONAL_PACKAGES", {})
    monkeypatch.setattr(module, "MOST_BUILDS", 1)  # a process of its own would not know the replacement
    return calls


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_second_call_builds_nothing(builds: list[str], tmp_path: Path) -> None:
    out = tmp_path / "deep" / "models"
    assert prepare(out) is True
    assert prepare(out) is False
    assert builds == ["toy"]
    assert names(out) == {"toy.onnx", "manifest.json"}
    assert names(out.parent) == {"models", ".models.lock"}
    found = find_model("toy", out)
    assert (found.path, found.version, found.parity) == (out / "toy.onnx", "1-abcdef01-int8", 0.999)


def test_damage_is_noticed_and_repaired(builds: list[str], tmp_path: Path) -> None:
    out = tmp_path / "models"
    prepare(out)
    (out / "toy.onnx").write_bytes(b"m0del")
    assert prepare(out) is True
    (out / "toy.onnx").unlink()
    assert prepare(out) is True
    (out / "manifest.json").write_text("{")
    assert prepare(out) is True
    assert (out / "toy.onnx").read_bytes() == b"model"


def test_another_recipe_builds_again(
    builds: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path / "models")
    monkeypatch.setattr(module, "RECIPE", 99)
    assert prepare(tmp_path / "models") is True
    assert find_model("toy", tmp_path / "models").version == "99-abcdef01-int8"


def test_a_failed_build_leaves_the_old_one(
    builds: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "models"
    prepare(out)
    before = (out / "manifest.json").read_bytes()

    def fail(out: Path, scratch: Path) -> dict[str, Any]:
        (out / "half").write_bytes(b"x")
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "BUILDS", {"toy": fail})
    monkeypatch.setattr(module, "RECIPE", 99)
    with pytest.raises(KeyboardInterrupt):
        prepare(out)
    assert (out / "manifest.json").read_bytes() == before
    assert names(tmp_path) == {"models", ".models.lock"}


def test_a_build_in_a_process_of_its_own_says_what_went_wrong(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="nothing-of-that-name"):
        module._build_all(["nothing-of-that-name", "nor-of-that"], tmp_path)


def test_a_build_ends_with_its_caller(tmp_path: Path) -> None:
    call = f"prepare._build_all(['minilm', 'e5'], prepare.Path({str(tmp_path)!r}))"
    script = f"from ml.compression import prepare; {call}"
    caller = subprocess.Popen([sys.executable, "-c", script])
    try:
        builds = until(lambda: _spawned(caller.pid), 60, "no build was started")
    finally:
        caller.kill()
        caller.wait(PATIENCE_S)
    _, alive = psutil.wait_procs(builds, 60)
    assert alive == []
    assert list(tmp_path.glob("*.onnx")) == []


def _spawned(pid: int) -> list[psutil.Process]:
    return [child for child in psutil.Process(pid).children() if "spawn_main" in " ".join(child.cmdline())]


def test_leftovers_of_a_killed_build_are_removed(builds: list[str], tmp_path: Path) -> None:
    (tmp_path / ".models.building-dead").mkdir()
    prepare(tmp_path / "models")
    assert names(tmp_path) == {"models", ".models.lock"}


def test_an_optional_model_comes_and_goes_without_the_others(
    builds: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what changed is built; a package that is not there, or holds other bytes, leaves its model out."""
    out = tmp_path / "models"
    prepare(out)
    before = (out / "toy.onnx").stat().st_ino

    def more(out: Path, scratch: Path) -> dict[str, Any]:
        builds.append("more")
        for name in ("more.onnx", "more-tokenizer.json"):
            (out / name).write_bytes(b"more")
        return {"file": "more.onnx", "weights": "00112233", "precision": "int8", "parity": 1.0}

    def refuse(out: Path, scratch: Path) -> dict[str, Any]:
        raise WeightsMissing("other bytes")

    monkeypatch.setattr(module, "BUILDS", module.BUILDS | {"more": more})
    monkeypatch.setattr(module, "OPTIONAL_PACKAGES", {"more": "numpy"})
    monkeypatch.setattr(module, "OPTIONAL_RECIPES", {"more": 1})
    assert [prepare(out), prepare(out)] == [True, False]
    assert (builds, (out / "toy.onnx").stat().st_ino) == (["toy", "more"], before)
    assert names(out) == {"toy.onnx", "more.onnx", "more-tokenizer.json", "manifest.json"}
    monkeypatch.setattr(module, "OPTIONAL_RECIPES", {"more": 2})
    monkeypatch.setattr(module, "BUILDS", module.BUILDS | {"more": refuse})
    assert [prepare(out), prepare(out)] == [True, False]
    assert names(out) == {"toy.onnx", "manifest.json"}
    monkeypatch.setattr(module, "OPTIONAL_PACKAGES", {"more": "no-such-package"})
    assert prepare(out) is True
    assert (builds, find_model("toy", out).parity) == (["toy", "more"], 0.999)
    with pytest.raises(ModelsMissing):
        find_model("more", out)


def test_another_recipe_of_an_optional_model_is_another_version(
    builds: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def more(out: Path, scratch: Path) -> dict[str, Any]:
        (out / "more.onnx").write_bytes(b"more")
        return {"file": "more.onnx", "weights": "00112233", "precision": "int8", "parity": 1.0}

    ranges, versions = tmp_path / "ranges", set()
    monkeypatch.setattr(module, "BUILDS", module.BUILDS | {"more": more})
    monkeypatch.setattr(module, "OPTIONAL_PACKAGES", {"more": "numpy"})
    monkeypatch.setattr(module, "MADE_WITH", {"more": ranges})
    for recipe, content in ((1, b"a"), (1, b"b"), (2, b"b")):
        monkeypatch.setattr(module, "OPTIONAL_RECIPES", {"more": recipe})
        ranges.write_bytes(content)
        assert [prepare(tmp_path / "models"), prepare(tmp_path / "models")] == [True, False]
        versions.add(find_model("more", tmp_path / "models").version)
    assert len(versions) == 3
    assert builds == ["toy"]


def test_an_optional_model_that_strays_stops_no_other(
    builds: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stray(out: Path, scratch: Path) -> dict[str, Any]:
        raise ParityError("more: mean cosine 0.5 to fp32 is below 0.98")

    monkeypatch.setattr(module, "BUILDS", module.BUILDS | {"more": stray})
    monkeypatch.setattr(module, "OPTIONAL_PACKAGES", {"more": "numpy"})
    monkeypatch.setattr(module, "OPTIONAL_RECIPES", {"more": 1})
    assert prepare(tmp_path / "models") is True
    assert find_model("toy", tmp_path / "models").parity == 0.999
    with pytest.raises(ModelsMissing):
        find_model("more", tmp_path / "models")


def test_other_folders_are_not_replaced(builds: list[str], tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RuntimeError, match="refusing"):
        prepare(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_concurrent_callers_build_once(builds: list[str], tmp_path: Path) -> None:
    threads = [threading.Thread(target=prepare, args=(tmp_path / "models",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert builds == ["toy"]


def test_where_models_lie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CROSSLIGHT_MODELS", str(tmp_path / "a"))
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "b"))
    assert models_dir() == tmp_path / "a"
    monkeypatch.delenv("CROSSLIGHT_MODELS")
    assert models_dir() == tmp_path / "b" / "models"
    monkeypatch.delenv("DATA_DIR")
    assert models_dir().parts[-2:] == ("var", "models")


def test_missing_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(ModelsMissing, match=r"python -m ml\.compression prepare"):
        find_model("minilm", tmp_path)


def test_the_real_models_are_close_to_fp32(models: Path) -> None:
    assert store.is_intact(models, current_recipe())
    manifest = json.loads((models / "manifest.json").read_text())
    floors = {"minilm": 0.99, "efficientnet-lite0": 0.98, "efficientnet-lite2": 0.98}
    optional = module.OPTIONAL_PACKAGES.keys() & manifest["models"].keys()
    floors |= {name: {"e5": 0.999, "clip-vit-b16": 0.98, "whisper-base": 1.0}[name] for name in optional}
    assert set(manifest["models"]) == set(floors)
    for model_id, floor in floors.items():
        assert find_model(model_id, models).parity >= floor
    sizes = {name: entry["bytes"] for name, entry in manifest["files"].items()}
    own = sum(size for name, size in sizes.items() if not name.startswith(tuple(optional)))
    assert own < 60e6
    heard = sum(size for name, size in sizes.items() if name.startswith("whisper-base/"))
    assert heard < 150e6
    assert sum(sizes.values()) - own - heard < 90e6 * len(optional - {"whisper-base"})


def test_quantisation_that_strays_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from ml.compression import prepare

    calls: list[str] = []
    fp32 = (np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32))
    strayed = (fp32[0], 1 - fp32[1])  # the features alone
    monkeypatch.setattr(prepare, "windowed_network", lambda *_: None)
    monkeypatch.setattr(prepare, "_run_torch", lambda *_: fp32)
    monkeypatch.setattr(prepare, "_export_pictures", lambda *_: None)
    monkeypatch.setattr(prepare, "preprocess", lambda *_: None)
    monkeypatch.setattr(prepare, "_write", lambda source, target, shown, precision: calls.append(precision))
    monkeypatch.setattr(prepare, "run_onnx", lambda *_: fp32 if calls[-1] == "fp32" else strayed)
    entry = prepare.build_efficientnet("efficientnet-lite0", tmp_path, tmp_path)
    assert calls == ["int8", "int8-reduced", "fp32"]
    assert (entry["precision"], entry["parity"]) == ("fp32", 1.0)


def test_the_command_is_instant_when_all_is_there(models: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ml.compression", "prepare", "--out", str(models)],
        cwd=Path(module.__file__).resolve().parents[2], capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout.startswith("models intact in ")


def test_calibration_pictures_are_small_and_their_origin_is_told() -> None:
    from ml.compression.prepare import CALIBRATION

    pictures = list(CALIBRATION.glob("*.jpg"))
    assert len(pictures) >= 50
    assert sum(path.stat().st_size for path in pictures) < 1_500_000
    origins = {path.name.split("-")[0] for path in pictures}
    text = (CALIBRATION / "README.md").read_text()
    assert all(f"`{origin}-`" in text for origin in origins)


@pytest.mark.parametrize("cores", [1, 2])
def test_whoever_waits_for_models_is_told_how_far_it_is(
    cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert module.PURPOSES.keys() == module.BUILDS.keys()
    # In this process, where the builders can be replaced.
    monkeypatch.setattr(module, "ProcessPoolExecutor", lambda count, *_, **__: ThreadPoolExecutor(1))
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr(module, "_build", lambda model_id, folder: {"file": model_id})
    missing = ["minilm", "clip-vit-b16", "e5"]
    with caplog.at_level("INFO"):
        built = module._build_all(missing, tmp_path)
    assert list(built) == missing
    now = ["texts, pictures and words", "pictures and words, many languages", "many languages"]
    if cores == 1:
        now = ["texts", "pictures and words", "many languages"]
    left = ["", "; about N s left", "; about N s left"]
    told = [f"{ready} of 3 ready; now {one}{left[ready]}" for ready, one in enumerate(now)]
    assert [re.sub(r"about \d+ s", "about N s", one) for one in caplog.messages] == told
    assert max(map(len, told)) <= SHOWN


def test_what_is_left_is_as_much_as_what_is_done_took(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        module._tell(["minilm", "e5", "clip-vit-b16"], ["minilm"], 1, time.monotonic() - 60)
    ((left,),) = [re.findall(r"about (\d+) s left", one) for one in caplog.messages]
    assert 120 <= int(left) <= 180
