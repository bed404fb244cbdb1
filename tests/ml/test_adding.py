"""A folder of the hub's kind becomes a space: whole or not at all, close to its original, or refused with a reason."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml.alignment.installed import added_dir, added_slugs, folder_of, slug_of
from ml.alignment.space import JointSpace, SpaceError
from ml.alignment.two_towers import fitted_axes, unpacked
from ml.compression import prepare
from ml.encoders.base import EncoderUnavailable, load_encoder
from ml.hub import AddingError, Wanted, add_space, adding, damaged_file, take_away
from tests.ml.added_spaces import WIDTH, write_added
from tests.ml.test_hf import build, check_contract, torch, transformers


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where prepared models lie."""
    monkeypatch.setenv("CROSSLIGHT_MODELS", str(tmp_path / "models"))
    return tmp_path / "models" / "spaces"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts and pictures enough to fit two means."""
    monkeypatch.setattr(adding, "fitting_texts", lambda: ["a dog", "a cat", "red apple", "a red dog"] * 3)
    pictures = np.random.default_rng(0).integers(0, 256, (6, 40, 50, 3), np.uint8)
    monkeypatch.setattr(adding, "fitting_pictures", lambda: list(pictures))


def refused(folder: Path, home: Path, **options: Any) -> str:
    """Why the folder is not added; that nothing is left is looked at, too."""
    with pytest.raises(AddingError) as why:
        add_space(Wanted(f"hf:{folder}", **options), lambda line: None)
    assert {path.name for path in home.glob("*")} <= {".add.lock"}
    return str(why.value)


# --- One that is added ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_clip_in_a_folder_becomes_a_space(tmp_path: Path, home: Path, few: None) -> None:
    folder = build("clip", tmp_path / "Tiny_CLIP.v2")
    told: list[str] = []
    added = add_space(Wanted(f"hf:{folder}", dimension=8), told.append)
    assert (added.slug, added.folder, added_slugs()) == (
        "tiny-clip-v2-1",
        home / "tiny-clip-v2-1",
        [added.slug],
    )
    assert folder_of("tiny-clip-v2:1") == added.folder
    assert {path.name for path in home.iterdir()} == {".add.lock", ".versions.json", added.slug}
    check_manifest(added.manifest, folder)
    assert any(line.startswith("text int8: cosine to the original") for line in told)
    check_vectors(added.folder, folder)
    with pytest.raises(AddingError, match="there is a space 'tiny-clip-v2-1' already"):
        add_space(Wanted(f"hf:{folder}"), told.append)
    assert damaged_file(added.slug) == ""
    for tower in ("text", "image"):
        check_contract(load_encoder(f"added:{added.slug}#{tower}"))
    take_away(added.slug)
    assert added_slugs() == []
    # The next one of that name is another one to all who remember vectors.
    assert adding._free_slug("tiny-clip-v2") == "tiny-clip-v2-2"


def check_manifest(manifest: dict[str, Any], folder: Path) -> None:
    assert (manifest["kind"], manifest["dimension"], manifest["layout"]) == ("two-tower", 8, "clip")
    assert manifest["languages"] == ["en"]
    assert manifest["reduction"]["method"] == "pca"
    assert 0.5 < manifest["reduction"]["kept_variance"] <= 1
    source = manifest["source"]
    assert (source["name"], source["commit"]) == (str(folder), "")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= source["files"].keys()
    for tower in manifest["towers"].values():
        assert tower["parity"]["least"] > 0.9 and tower["dimension"] == 12


def check_vectors(space_folder: Path, source: Path) -> None:
    """Texts find pictures in the order in which the original's towers do, up to what PCA and INT8 cost."""
    space = JointSpace.load(space_folder)
    pictures = list(np.random.default_rng(1).integers(0, 256, (12, 36, 36, 3), np.uint8))
    texts = ["a dog", "red apple", "cat"]
    found, seen = space.embed_texts(texts), space.embed_images(pictures)
    assert found.shape == (3, 8) and seen.shape == (12, 8)
    np.testing.assert_allclose(np.linalg.norm(seen, axis=1), 1, atol=1e-5)
    originals = load_encoder(f"hf:{source}#image").encode(pictures)
    ours = load_encoder(f"added:{space_folder.name}#image").encode(pictures)
    assert (originals * ours).sum(axis=1).min() > 0.97
    np.testing.assert_allclose(space.query_images(pictures[:1]), seen[:1], atol=1e-5)


# --- What is refused -------------------------------------------------------------------------------------------


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return build("clip", tmp_path / "clip")


def test_pickled_weights(clip: Path, home: Path) -> None:
    (clip / "model.safetensors").rename(clip / "pytorch_model.bin")
    assert "pickled (pytorch_model.bin)" in refused(clip, home)
    (clip / "pytorch_model.bin").unlink()
    assert "no weights in safetensors" in refused(clip, home)


def test_weights_with_nan(clip: Path, home: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(clip / "model.safetensors")
    state["visual_projection.weight"][0, 0] = float("nan")
    save_file(state, clip / "model.safetensors", {"format": "pt"})
    assert "'visual_projection.weight' in model.safetensors hold numbers that are none" in refused(clip, home)


def test_damaged_weights(clip: Path, home: Path) -> None:
    (clip / "model.safetensors").write_bytes(b"\x08" + b"\0" * 20)
    assert "model.safetensors is no safetensors file" in refused(clip, home)


def test_without_a_tokenizer_or_an_image_processor(clip: Path, home: Path) -> None:
    kept = (clip / "preprocessor_config.json").read_bytes()
    (clip / "preprocessor_config.json").unlink()
    assert "image processor" in refused(clip, home)
    (clip / "preprocessor_config.json").write_bytes(kept)
    (clip / "tokenizer.json").unlink()
    assert "no tokenizer" in refused(clip, home)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("vit", "only two towers"),
        ("clip_vision_model", "a picture tower alone"),
        ("siglip2", "NaFlex"),
        ("jina_clip", "needs code"),
        (None, "None is not supported"),
    ],
)
def test_other_architectures(clip: Path, home: Path, kind: str | None, why: str) -> None:
    config = json.loads((clip / "config.json").read_text())
    (clip / "config.json").write_text(json.dumps(config | {"model_type": kind}))
    assert why in refused(clip, home)


def test_code_of_the_repository_is_not_run(clip: Path, home: Path, tmp_path: Path) -> None:
    config = json.loads((clip / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (clip / "config.json").write_text(json.dumps(config))
    (clip / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    assert "never run" in refused(clip, home)
    assert not (tmp_path / "ran").exists()


def test_a_disk_that_is_full_before_and_half_way(
    clip: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ml.compression import export

    def full(*args: Any, **options: Any) -> None:
        (options["folder"] / "text").mkdir()
        (options["folder"] / "text" / "model.onnx").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(export, "export", full)
        assert "is full" in refused(clip, home)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    assert "0.0 GB are free" in refused(clip, home)


def test_one_that_strays_from_its_original(clip: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ml.compression import export
    from ml.compression.quantise import ParityError

    def strays(*args: Any, **options: Any) -> None:
        raise ParityError("it strays: int8: mean cosine 0.4")

    monkeypatch.setattr(export, "export", strays)
    assert "mean cosine 0.4" in refused(clip, home)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"source": "/no/such/folder"}, "no folder /no/such/folder"),
        ({"name": "Uppercase"}, "cannot name a space"),
        ({"name": "open"}, "come with the product"),
        ({"name": "9lives"}, "cannot name a space"),
        ({"precision": "int4"}, "none of int8, fp16, fp32"),
        ({"dimension": 5000}, "1 to 4096"),
        ({"revision": "main"}, "has no revision"),
    ],
)
def test_nonsense(clip: Path, home: Path, options: dict[str, Any], why: str) -> None:
    given = {"source": f"{clip}"} | options
    with pytest.raises(AddingError, match=why):
        add_space(Wanted(f"hf:{given.pop('source')}", **given), lambda line: None)
    assert added_slugs() == []


# --- What is here ----------------------------------------------------------------------------------------------


def test_spaces_outlive_a_new_preparation_and_what_killed_runs_left_does_not(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slug = write_added()
    (home / ".adding-x" / "half").mkdir(parents=True)
    monkeypatch.setattr(prepare, "BUILDS", {})
    monkeypatch.setattr(prepare, "_take_over", lambda *rest: {})
    assert prepare.prepare(home.parent)
    assert added_slugs() == [slug]
    adding._clear_leftovers()
    assert {path.name for path in home.iterdir()} == {slug}


def test_a_damaged_one_is_told(home: Path) -> None:
    slug = write_added()
    assert load_encoder(f"added:{slug}#text").encode(["red"]).shape == (1, WIDTH)
    (home / slug / "text" / "model.onnx").write_bytes(b"other")
    assert damaged_file(slug).endswith("text")
    with pytest.raises(EncoderUnavailable, match="not whole"):
        load_encoder(f"added:{slug}#text")
    (home / slug / "space.safetensors").write_bytes(b"other")
    assert "SHA-256" in damaged_file(slug)
    for argument in ("x#text", f"{slug}#sound", slug, "../../x-1#text"):
        with pytest.raises((EncoderUnavailable, ValueError)):
            load_encoder(f"added:{argument}")
    with pytest.raises(AddingError, match=f"there are: {slug}"):
        take_away("other-1")


@pytest.mark.parametrize("space", ["", "open", "open:", "../x:1", "Open:1", "open:1:2", "-x:1"])
def test_what_cannot_name_a_space(space: str) -> None:
    assert (slug_of(space), folder_of(space)) == ("", None)


def test_arrays_that_do_not_fit_each_other() -> None:
    good = {"text_mean": np.zeros(4, np.float32), "picture_mean": np.zeros(4, np.float32)}
    good["axes"] = np.eye(4, 3, dtype=np.float16)
    assert unpacked(good).dimension == 3
    for name, value in (
        ("text_mean", np.zeros(3)),
        ("axes", np.zeros((4, 5))),
        ("axes", np.full((4, 3), np.nan)),
    ):
        with pytest.raises(ValueError, match=name):
            unpacked(good | {name: value})


def test_a_manifest_that_states_another_dimension(home: Path) -> None:
    slug = write_added()
    path = home / slug / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dimension": 99}))
    with pytest.raises(SpaceError, match="make 4 dimensions, not 99"):
        JointSpace.load(home / slug)


def test_texts_and_pictures_meet_on_one_scale(home: Path) -> None:
    """Each side's mean is off: a word is about as near to its picture as to another text with it."""
    write_added()
    space = JointSpace.load(added_dir() / "tiny-1")
    pictures = space.embed_images(
        [np.full((9, 9, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255))]
    )
    texts = space.embed_texts(["red", "blue"])
    assert (texts @ pictures.T).argmax(axis=1).tolist() == [0, 1]
    assert (texts @ pictures.T).diagonal().min() > 0.9


def test_axes_keep_what_both_sides_hold() -> None:
    random = np.random.default_rng(0)
    texts, pictures = np.zeros((90, 6)), np.zeros((30, 6))
    texts[:, 0], pictures[:, 4] = 9 * random.normal(size=90), random.normal(size=30)
    axes, kept = fitted_axes(texts.astype(np.float32), pictures.astype(np.float32), 2)
    assert kept == pytest.approx(1)
    assert np.abs(axes[[0, 4]]).max(axis=1) == pytest.approx([1, 1])


assert torch and transformers  # both are there, or all of this is skipped
