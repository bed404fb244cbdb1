"""The space prior:2: prior:1 that reads Chinese, with the same tensors, and Chinese words of colour."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ml.alignment.chinese_colours import chinese_colour_words
from ml.alignment.colours import COLOURS
from ml.alignment.space import SHIPPED, JointSpace, SpaceError

FOLDER = SHIPPED.parent / "prior-2"


@pytest.fixture(scope="module")
def spaces(models: Path) -> tuple[JointSpace, JointSpace]:
    return JointSpace.load(SHIPPED), JointSpace.load(FOLDER)


def test_it_is_the_same_space_for_english_and_for_pictures(spaces: tuple[JointSpace, JointSpace]) -> None:
    first, second = spaces
    assert (second.id, second.version) == ("prior", "2")
    assert first.manifest["sha256"] == second.manifest["sha256"]
    assert first.manifest["encoders"]["image"] == second.manifest["encoders"]["image"]
    texts = ["a red apple", "", "invoice 2024-118", "¿qué?", "赤いりんご"]
    np.testing.assert_array_equal(first.embed_texts(texts), second.embed_texts(texts))


def test_its_text_version_is_that_of_its_encoder(models: Path) -> None:
    from ml.encoders.base import load_encoder

    encoders = json.loads((FOLDER / "manifest.json").read_text("utf-8"))["encoders"]
    assert encoders["text_version"] == load_encoder(encoders["text"]).version


@pytest.mark.parametrize(
    ("chinese", "english"), [("一只猫", "a cat"), ("紅色的蘋果", "red apple"), ("２辆自行车", "two bicycles")]
)
def test_chinese_lands_where_english_does(
    spaces: tuple[JointSpace, JointSpace], chinese: str, english: str
) -> None:
    _, space = spaces
    others = ["a dog", "green pear", "a horse", "the sea at night", "an office"]
    asked, there = space.embed_texts([chinese])[0], space.embed_texts([english, *others])
    assert (there @ asked).argmax() == 0


@pytest.mark.parametrize(
    "named", ["../../secret/space.safetensors", "/etc/passwd", "../prior-1/other", "", 3]
)
def test_tensors_elsewhere_are_refused(tmp_path: Path, named: object) -> None:
    manifest = json.loads((FOLDER / "manifest.json").read_text("utf-8"))
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"tensors": named}))
    with pytest.raises(SpaceError, match="tensors"):
        JointSpace.load(tmp_path)


def test_shared_tensors_are_proven_too(tmp_path: Path) -> None:
    for name in ("prior-1", "prior-2"):
        shutil.copytree(SHIPPED.parent / name, tmp_path / name)
    content = bytearray((tmp_path / "prior-1" / "space.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "prior-1" / "space.safetensors").write_bytes(content)
    with pytest.raises(SpaceError, match="SHA-256"):
        JointSpace.load(tmp_path / "prior-2")


@pytest.mark.parametrize(
    ("text", "colours"),
    [
        ("红色的苹果", {"red"}),
        ("紅色蘋果", {"red"}),
        ("红苹果和绿色的梨", {"red", "green"}),
        ("深红色跑车", {"red"}),
        ("粉红色", {"pink"}),
        ("金黄色", {"yellow"}),
        ("黄瓜、白菜、红茶", set()),
        ("各具特色的角色", set()),
        ("red apple", set()),
        ("", set()),
    ],
)
def test_colours_are_told_from_words_that_hold_their_character(text: str, colours: set[str]) -> None:
    (named,) = chinese_colour_words([text])
    assert {COLOURS[place] for place in named.nonzero()[0]} == colours


def test_the_manifest_is_what_its_command_writes(models: Path, tmp_path: Path) -> None:
    from research.chinese.space import main

    main(tmp_path)
    assert (tmp_path / "manifest.json").read_bytes() == (FOLDER / "manifest.json").read_bytes()
