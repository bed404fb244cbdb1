"""Any text classifier by configuration, with tiny models saved here and real loading code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml.auditing.examiner import Examiner, Subject
from ml.detectors.base import Item, Words
from ml.detectors.hf_text import load
from ml.encoders.base import EncoderUnavailable

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "you", "are", "stupid", "nice", "day"]


def save(folder: Path, labels: list[str], problem: str) -> Path:
    """A BERT of one layer whose head says "first label" loudly for the word "stupid"."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16, num_labels=len(labels), problem_type=problem,
        id2label=dict(enumerate(labels)), label2id={label: at for at, label in enumerate(labels)},
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=16,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def text(*texts: str) -> Item:
    return Item("text", "text/plain", words=[Words(each, "text") for each in texts])


def expected(folder: Path, sentence: str) -> Any:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        return model(**tokenizer(sentence, return_tensors="pt")).logits[0]


def test_each_label_of_a_multi_label_model_has_its_own_sigmoid(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", ["toxic", "threat", "obscene"], "multi_label_classification")
    detector = load(f"{folder}#toxic=abuse,threat=violence")
    assert detector.missing() == ""
    assert detector.categories == ("abuse", "violence")
    found = detector.examine(text("you are stupid"))
    logits = expected(folder, "you are stupid").sigmoid().numpy()
    assert found.categories["abuse"].score == pytest.approx(logits[0], abs=1e-4)
    assert found.categories["violence"].score == pytest.approx(logits[1], abs=1e-4)
    assert set(found.categories) == {"abuse", "violence"}
    assert not found.categories["abuse"].calibrated
    evidence = found.categories["abuse"].evidence[0]
    assert (evidence["start"], evidence["end"], evidence["label"]) == (0, 14, "toxic")


def test_a_softmax_adds_up_and_labels_may_be_categories(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", ["Spam", "sexual", "fine"], "single_label_classification")
    detector = load(str(folder))
    assert detector.categories == ("spam", "sexual")
    found = detector.examine(text("nice day"))
    shares = expected(folder, "nice day").softmax(-1).numpy()
    assert found.categories["spam"].score == pytest.approx(shares[0], abs=1e-4)
    both = load(f"{folder}#spam=spam,sexual=spam").examine(text("nice day")).categories["spam"].score
    assert both == pytest.approx(shares[0] + shares[1], abs=1e-4)


def test_the_worst_passage_counts_and_long_texts_are_cut(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", ["toxic"], "multi_label_classification")
    detector = load(f"{folder}#toxic=abuse")
    one, two = (float(expected(folder, each).sigmoid()[0]) for each in ("you are stupid", "nice day"))
    found = detector.examine(text("you are stupid", "nice day")).categories["abuse"]
    assert found.score == pytest.approx(max(one, two), abs=1e-4)
    assert found.evidence[0]["piece"] == int(two > one)
    long = detector.examine(text("nice day. " * 9_000))
    assert {"kind": "cut", "passages": 90, "read": 64} in [dict(each) for each in long.evidence]


@pytest.mark.parametrize("argument", ["", "#toxic=abuse", "x#toxic", "x#toxic=nonsense", "x#=abuse"])
def test_wrong_specs_are_refused_at_once(argument: str) -> None:
    with pytest.raises(ValueError, match=r"hf-text needs|LABEL=CATEGORY"):
        load(argument)


def test_what_is_not_here_is_said_without_asking_anybody(tmp_path: Path) -> None:
    assert "no model at" in load(str(tmp_path / "nothing")).missing()
    assert "no model at" in load("nobody/has-this-model").missing()
    assert "no model at" in load("../../etc").missing()


def test_labels_that_the_model_lacks_fail_with_those_that_it_has(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", ["toxic"], "multi_label_classification")
    with pytest.raises(ValueError, match=r"are toxic: name them"):
        load(f"{folder}#insult=abuse").examine(text("you"))
    with pytest.raises(ValueError, match=r"are toxic: name them"):
        load(str(folder)).examine(text("you"))


def test_a_checkpoint_without_a_trained_head_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", ["toxic"], "multi_label_classification")
    model = transformers.BertModel.from_pretrained(folder)
    config = transformers.AutoConfig.from_pretrained(folder)
    model.save_pretrained(folder)
    config.save_pretrained(folder)
    with pytest.raises(EncoderUnavailable, match="no trained classifier"):
        load(f"{folder}#toxic=abuse").examine(text("you"))


def test_pickles_are_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", ["toxic"], "multi_label_classification")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(EncoderUnavailable, match="safetensors"):
        load(f"{folder}#toxic=abuse").examine(text("you"))


def test_no_words(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", ["toxic"], "multi_label_classification")
    assert load(f"{folder}#toxic=abuse").examine(Item("image", "image/png")).state == "not_applicable"
    assert np.isfinite(load(f"{folder}#toxic=abuse").examine(text("\u200b x")).categories["abuse"].score)


@pytest.mark.slow
def test_a_model_is_loaded_where_nothing_can_be_written_or_fetched(tmp_path: Path) -> None:
    examiner = Examiner()
    folder = save(tmp_path / "model", ["abuse", "fine"], "single_label_classification")
    subject = Subject("text", "text/plain", words=[Words("you are stupid", "text")])
    try:
        part = examiner.examine(subject, [f"hf-text:{folder}#abuse=abuse"]).parts[0]
    finally:
        examiner.close()
    assert part.finding.state == "examined", part.finding.reason
    assert 0.0 < part.finding.categories["abuse"].score < 1.0
