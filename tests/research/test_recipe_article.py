"""The article's recipe over two tiny random towers: a space that loads, places both kinds and finds its pairs."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ml.alignment.space import JointSpace
from ml.compression.export import export
from research.alignment.__main__ import main
from research.alignment.recipes import RecipeError, article
from tests.ml.test_hf import build

COLOURS = {"red": (220, 30, 30), "apple": (60, 200, 60), "dog": (120, 80, 40), "cat": (40, 40, 200)}


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Forty-eight pictures of one of four colours, each with the word for it, and one file that is no picture."""
    random = np.random.default_rng(0)
    path = tmp_path / "pairs.tar"
    with tarfile.open(path, "w") as archive:
        for number in range(48):
            word, colour = list(COLOURS.items())[number % 4]
            noise = random.integers(-20, 20, (40, 40, 3))
            picture = io.BytesIO()
            Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(picture, "PNG")
            add(archive, f"{number:03}.png", picture.getvalue())
            add(archive, f"{number:03}.txt", f"a {word}".encode())
        add(archive, "999.png", b"no picture")
        add(archive, "999.txt", b"a dog")
    return path


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


@pytest.fixture
def towers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """A random BERT, exported, and a random ResNet."""
    monkeypatch.setenv("CROSSLIGHT_MODELS", str(tmp_path / "models"))
    export(f"hf:{build('bert', tmp_path / 'bert')}", "bert")
    return "onnx:bert", f"hf:{build('resnet', tmp_path / 'resnet')}"


@pytest.mark.parametrize("method", ["PCA-256 + ridge", "Procrustes", "regularised CCA"])
@pytest.mark.slow
def test_each_method_makes_a_space_that_finds_its_pairs(
    tmp_path: Path, shards: Path, towers: tuple[str, str], method: str
) -> None:
    done = article(*towers, [str(shards)], tmp_path / "space", method)
    assert done == {"method": method, "pairs": 48, "captions": 48, "unreadable": 1}
    space = JointSpace.load(tmp_path / "space")
    assert (space.id, space.manifest["encoders"]["text"]) == ("article", "onnx:bert")
    texts = space.embed_texts([f"a {word}" for word in COLOURS])
    pictures = space.embed_images([np.full((40, 40, 3), colour, np.uint8) for colour in COLOURS.values()])
    assert texts.shape == pictures.shape == (4, 256)
    assert (texts @ pictures.T).argmax(1).tolist() == [0, 1, 2, 3]


def test_the_command(
    tmp_path: Path, shards: Path, towers: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "recipe",
        "article",
        "--text",
        towers[0],
        "--image",
        towers[1],
        "--out",
        str(tmp_path / "space"),
    ]
    assert main([*command, "--pairs", str(shards)]) == 0
    assert "48 pairs" in capsys.readouterr().out
    assert main([*command, "--pairs", str(tmp_path / "none.tar")]) == 1
    assert "no readable pair" in capsys.readouterr().err


def test_what_cannot_be(tmp_path: Path, shards: Path, towers: tuple[str, str]) -> None:
    with pytest.raises(RecipeError, match="encoder of image, not of text"):
        article(towers[1], towers[1], [str(shards)], tmp_path / "space")
    with pytest.raises(RecipeError, match="none of PCA-256"):
        article(*towers, [str(shards)], tmp_path / "space", "magic")
    few = tmp_path / "few.tar"
    with tarfile.open(shards) as archive, tarfile.open(few, "w") as fewer:
        for entry in archive.getmembers()[:8]:
            content = archive.extractfile(entry)
            assert content is not None
            add(fewer, entry.name, content.read())
    with pytest.raises(RecipeError, match="4 readable pairs are too few"):
        article(*towers, [str(few)], tmp_path / "space")
    assert not (tmp_path / "space").exists()
