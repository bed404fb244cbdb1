"""Smaller towers: what pruning leaves, and a student that learns what its teacher says."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml.compression.export import export
from ml.encoders.base import load_encoder
from ml.training.objective import Recipe
from ml.training.plan import TrainingError
from ml.training.run import run
from research.compression import pruning
from research.compression.distilling import Distil, Text, TextStream

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

WORDS = ["red", "green", "apple", "dog", "runs", "sleeps", "house", "small", "blue", "cat"]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
PIECES += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"] + WORDS + ["##ing", "zebra", "quartz"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of four layers, 32 wide, with a WordPiece vocabulary."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    folder = tmp_path_factory.mktemp("teacher")
    tokenizer = Tokenizer(models.WordPiece({piece: at for at, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=32, **names
    ).save_pretrained(folder)
    torch.manual_seed(0)
    transformers.BertModel(
        transformers.BertConfig(
            vocab_size=len(PIECES), hidden_size=32, intermediate_size=64, num_hidden_layers=4,
            num_attention_heads=4, max_position_embeddings=32, initializer_range=0.2,
        )
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture
def body(teacher: Path) -> Any:
    return transformers.AutoModel.from_pretrained(teacher).eval()


@pytest.fixture
def tokenizer(teacher: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(teacher).backend_tokenizer


def test_layers_in_the_order_asked_for(body: Any) -> None:
    wanted = [body.encoder.layer[0], body.encoder.layer[3]]
    pruning.keep_layers(body, (0, 3))
    assert list(body.encoder.layer) == wanted
    assert body.config.num_hidden_layers == 2
    for wrong in ((), (4,), (-1,)):
        with pytest.raises(ValueError, match="layers"):
            pruning.keep_layers(body, wrong)


@pytest.mark.slow
def test_the_weakest_inner_units_go(body: Any) -> None:
    layer = body.encoder.layer[1]
    with torch.no_grad():
        layer.intermediate.dense.weight[::2] *= 1e-4
        layer.intermediate.dense.bias[::2] = 0
    ids = torch.tensor([[2, 57, 58, 3]])
    strong = layer.intermediate.dense.weight[1::2].clone()
    pruning.prune_feed_forward(body, 0.5)
    assert torch.equal(layer.intermediate.dense.weight, strong)
    assert [tuple(one.output.dense.weight.shape) for one in body.encoder.layer] == [(32, 32)] * 4
    assert body.config.intermediate_size == 32
    assert body(input_ids=ids).last_hidden_state.isfinite().all()
    for wrong in (0, 1.5, -1):
        with pytest.raises(ValueError, match="share"):
            pruning.prune_feed_forward(body, wrong)


def test_a_pruned_vocabulary_reads_the_same_words_the_same(body: Any, tokenizer: Any) -> None:
    before = body.embeddings.word_embeddings.weight.detach().clone()
    counts = pruning.count_pieces(tokenizer, ["red apple", "red dog runs"])
    assert counts == Counter({"red": 2, "apple": 1, "dog": 1, "runs": 1})
    size = 5 + 52 + 4
    smaller = pruning.prune_vocabulary(body, tokenizer, counts, size)
    assert smaller.get_vocab_size() == size == body.config.vocab_size
    assert body.embeddings.word_embeddings.weight.shape == (size, 32)
    old, new = tokenizer.encode("red apple dog runs"), smaller.encode("red apple dog runs")
    assert old.tokens == new.tokens == ["[CLS]", "red", "apple", "dog", "runs", "[SEP]"]
    assert torch.equal(before[old.ids], body.embeddings.word_embeddings.weight[new.ids])
    assert smaller.encode("zebra").tokens == ["[CLS]", "z", "##e", "##b", "##r", "##a", "[SEP]"]
    assert smaller.encode("消").tokens == ["[CLS]", "[UNK]", "[SEP]"]


def test_other_vocabularies_are_refused(body: Any) -> None:
    from tokenizers import Tokenizer, models

    with pytest.raises(ValueError, match="not BPE"):
        pruning.prune_vocabulary(body, Tokenizer(models.BPE()), Counter(), 10)


def sentences(count: int) -> list[str]:
    random = np.random.default_rng(0)
    return [" ".join(random.choice(WORDS, random.integers(2, 7))) for _ in range(count)]


@pytest.mark.slow
def test_a_student_learns_and_is_exported(teacher: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "some.txt").write_text("\n".join(sentences(400)))
    (tmp_path / "run.json").write_text(
        json.dumps(
            {
                "objective": "distil", "data": [str(tmp_path / "data")], "epochs": 4, "batch": 32,
                "options": {
                    "teacher": f"hf:{teacher}", "student": str(teacher), "layers": [0, 3],
                    "feed_forward": 0.75, "vocabulary": 67, "lr": 3e-3,
                },
            }
        )
    )  # fmt: skip
    events: list[dict[str, Any]] = []
    result = run(tmp_path, lambda event, **fields: events.append({"event": event, **fields}), Distil)
    curve = [one["validation"]["cosine"] for one in events if one["event"] == "curve"]
    assert curve[-1] > curve[0] + 0.1
    folder = Path(result["space"])
    assert {"config.json", "model.safetensors", "tokenizer.json", "manifest.json"} <= {
        path.name for path in folder.iterdir()
    }
    loaded = load_encoder(f"hf:{folder}")
    assert loaded._model.config.num_hidden_layers == 2
    texts = sentences(500)[400:]
    cosines = np.sum(loaded.encode(texts) * load_encoder(f"hf:{teacher}").encode(texts), axis=1)
    assert cosines.mean() > curve[0] + 0.1
    assert result["metrics"]["domain"]["cosine"] == pytest.approx(curve[-1], abs=0.1)
    found, _tried = export(f"hf:{folder}", "student", folder=tmp_path / "exports")
    assert found.bytes < 120_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 3}, "no option 'width'"),
        ({"layers": [9]}, "not among the 4"),
        ({"layers": [0], "feed_forward": 0}, "share of inner units"),
    ],
)
def test_options_that_cannot_be(teacher: Path, options: dict[str, Any], message: str) -> None:
    given = {"teacher": f"hf:{teacher}", "student": str(teacher), **options}
    with pytest.raises(TrainingError, match=message) as error:
        Distil(Recipe(objective="distil", options=given)).prepare([Text("red dog")], "cpu")
    assert error.value.code == "bad_request"


def test_texts_are_read_as_a_stream(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\n two \n")
    (tmp_path / "b.jsonl").write_text('{"text": "three"}\n{"text": ["four", "", 5]}\n{"other": 1}\n')
    stream = TextStream([str(tmp_path)])
    assert [item.text for item in stream] == [item.text for item in stream] == ["one", "two", "three", "four"]
    assert Text("A b").group == Text("a B").group != Text("a c").group
    (tmp_path / "c.jsonl").write_text("[1]\n")
    with pytest.raises(TrainingError, match="no JSON object"):
        list(TextStream([str(tmp_path / "c.jsonl")]))
    with pytest.raises(TrainingError, match="cannot be read"):
        list(TextStream([str(tmp_path / "none.txt")]))
