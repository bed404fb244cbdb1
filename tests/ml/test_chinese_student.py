"""Reading Chinese: what counts as Chinese, the student's arithmetic, and that English stays what it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ml.encoders._chinese import FOLDER, MANIFEST, TENSORS, gram_hash, grams, load_student
from ml.encoders._scripts import chinese_parts
from ml.encoders.base import EncoderUnavailable, load_encoder
from research.chinese.packing import pack, write_student
from tests.speed import ratio


@pytest.mark.parametrize(
    ("text", "runs", "rest"),
    [
        ("一只猫", ("一只猫",), ""),
        ("红色 iPhone 15 手机壳！", ("红色", "手机壳"), "iPhone 15 !"),
        ("２个苹果", ("二个苹果",), ""),
        ("2024年的报告", ("年的报告",), "2024"),
        ("3.5米", ("米",), "3.5"),
        ("猫，和狗。", ("猫", "和狗"), ""),
        ("猫😀", ("猫",), ""),
        ("𠮷野家", ("𠮷野家",), ""),
    ],
)
def test_chinese_is_told_from_the_rest(text: str, runs: tuple[str, ...], rest: str) -> None:
    parts = chinese_parts(text)
    assert parts is not None
    assert (parts.runs, parts.rest) == (runs, rest)
    assert (parts.share == 1) == (rest == "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a cat",
        "café",
        "ＡＢＣ",
        "，。",
        "猫の写真",
        "消防車です",
        "カタカナ語",
        "고양이 猫",
        "😀",
        "\x00",
    ],
)
def test_other_languages_are_not_chinese(text: str) -> None:
    assert chinese_parts(text) is None


def test_a_word_of_chinese_in_english_weighs_little() -> None:
    few, many = chinese_parts("The word 猫 means cat"), chinese_parts("猫 (cat) 是一种动物")
    assert few is not None
    assert many is not None
    assert few.share < 0.2 < 0.8 < many.share


def tiny(folder: Path) -> None:
    """A student of two n-grams and the inputs as they are: 猫 along one diagonal, 狗 along the other."""
    eye = np.eye(2, 384, dtype=np.float32)
    layers = {
        "inner": np.zeros((2, 3), np.float32),
        "bias": np.zeros(3, np.float32),
        "outer": np.zeros((3, 384), np.float32),
        "direct": eye,
        "shift": np.zeros(384, np.float32),
    }
    rows = np.array([[1, -1], [2, 2], [-1, -1]], np.float32)
    write_student(folder, pack(["猫", "狗"], rows, layers, {"貓": "猫"}), {"id": "tiny"})


def test_packed_student_reads_what_was_packed(tmp_path: Path) -> None:
    tiny(tmp_path)
    student = load_student(tmp_path)
    np.testing.assert_allclose(student.read(["猫"])[:2], [0.5**0.5, -(0.5**0.5)], atol=1e-3)
    np.testing.assert_allclose(student.read(["貓"]), student.read(["猫"]))
    both = student.read(["猫狗"])
    np.testing.assert_allclose(both[1] / both[0], (2 - 1) / (2 + 1), rtol=0.01)
    np.testing.assert_allclose(student.read(["鱼"])[:2], [-(0.5**0.5)] * 2, atol=1e-6)
    assert student.version.startswith("tiny-")


def test_only_the_beginning_of_a_long_text_is_read() -> None:
    read = list(grams(["猫" * 200, "狗" * 200]))
    assert sum(gram == "猫" for gram in read) == 200
    assert sum(gram == "狗" for gram in read) == 56


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    tiny(tmp_path)
    content = bytearray((tmp_path / TENSORS).read_bytes())
    content[-1] ^= 1
    (tmp_path / TENSORS).write_bytes(content)
    with pytest.raises(EncoderUnavailable, match="SHA-256"):
        load_student(tmp_path)
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(EncoderUnavailable, match="no Chinese student"):
        load_student(tmp_path / "..")


def test_hashes_of_the_shipped_student_are_sorted_and_single() -> None:
    student = load_student()
    assert (np.diff(student.grams.astype(np.int64)) > 0).all()
    assert gram_hash("猫") in student.grams
    assert (FOLDER / TENSORS).stat().st_size <= 6_000_000
    assert "CC BY-SA" in json.loads((FOLDER / MANIFEST).read_text("utf-8"))["licence"]


def test_english_is_bit_for_bit_minilm(models: Path) -> None:
    texts = ["a red apple", "", "Crème brûlée", "猫の写真", "ＡＢＣ", "quarterly report 2024", "😀"]
    both = [load_encoder(f"bundled:{name}").encode(texts) for name in ("minilm", "bilingual")]
    np.testing.assert_array_equal(*both)


@pytest.mark.parametrize(
    ("chinese", "english", "another"),
    [
        ("一只猫", "a cat", "a dog"),
        ("一隻貓", "a cat", "a dog"),
        ("消防车", "fire engine", "train"),
        ("红色的苹果", "red apple", "green pear"),
        ("红色 iPhone 手机壳", "red iPhone phone case", "red sofa"),
        ("２辆自行车", "two bicycles", "two horses"),
    ],
)
def test_chinese_means_what_its_translation_means(
    models: Path, chinese: str, english: str, another: str
) -> None:
    asked = load_encoder("bundled:bilingual").encode([chinese])[0]
    right, wrong = load_encoder("bundled:minilm").encode([english, another])
    assert asked @ right > asked @ wrong + 0.1


def test_reading_chinese_takes_less_than_reading_english(models: Path) -> None:
    student, english = load_student(), load_encoder("bundled:minilm")
    chinese = ["红色的苹果和绿色的梨在木桌子上旁边有一杯牛奶"] * 100
    sentences = ["a red apple and a green pear on a wooden table beside a glass of milk"] * 100
    read = ratio(
        lambda: [student.read([each]) for each in chinese],
        lambda: [english.encode([each]) for each in sentences],
    )
    assert read < 1


def test_reading_needs_no_torch(models: Path, run_python: Callable[[str], str]) -> None:
    code = (
        "import sys\nfrom ml.encoders.base import load_encoder\n"
        "load_encoder('bundled:bilingual').encode(['一只猫'])\n"
        "print([m for m in ('torch', 'transformers', 'django', 'celery') if m in sys.modules])\n"
    )
    assert run_python(code).strip() == "[]"
