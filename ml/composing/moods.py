"""What mood a prompt asks for, and what music and movement are like in it.

A mood is the nearest of a dozen prototypes: by words of English and Chinese that name it, and, where the joint space is
given, by how near its texts lie to the prompt. Tempo and energy are mixed from the nearest three, so that neighbouring
prompts sound alike; mode and instruments are those of the nearest.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ml.alignment.space import JointSpace

#: Semitones above the tonic.
SCALES: Mapping[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "pentatonic": (0, 2, 4, 7, 9),
}
#: Of a word that names the mood, against a deviation of nearness in the joint space.
WORD = 3.0
MIXED = 3
MAX_READ = 2000


@dataclass(frozen=True)
class Mood:
    """``tempo``: beats a minute. ``scale``: semitones above ``tonic`` (a MIDI pitch, 48 to 59). ``energy``: 0 to 1.
    ``instruments``: melody, harmony, bass, by their names in the bank. ``words``: what the mood is, in English."""

    name: str
    words: str
    tempo: float
    mode: str
    scale: tuple[int, ...]
    tonic: int
    energy: float
    instruments: tuple[str, str, str]


@dataclass(frozen=True)
class Prototype:
    name: str
    texts: tuple[str, ...]
    english: str
    chinese: str
    tempo: float
    mode: str
    energy: float
    melodies: tuple[str, ...]
    harmonies: tuple[str, ...]
    bass: str = "bass"

    def words(self, prompt: str) -> int:
        """How many of its words are in the prompt."""
        english = len(re.findall(rf"\b(?:{self.english})", prompt, re.IGNORECASE))
        return english + len(re.findall(self.chinese, prompt))


PROTOTYPES: Sequence[Prototype] = (
    Prototype(
        "calm", ("a quiet lake in the morning", "calm peaceful meadow"),
        "calm|quiet|peace|gentl|soft|still|relax|slow|zen|meditat|garden|meadow",
        "安静|平静|宁静|温柔|轻柔|放松|花园|禅|缓缓",
        72, "major", 0.25, ("piano", "flute", "guitar"), ("strings", "pad", "guitar"),
    ),
    Prototype(
        "sad", ("a sad lonely person in the rain", "tears and farewell"),
        "sad|lonel|cry|tear|rain|grief|mourn|melanchol|farewell|broken|lost|alone|grey|gray",
        "悲|伤心|孤独|哭|泪|雨|离别|忧郁|寂寞|失落",
        62, "minor", 0.2, ("piano", "flute", "vibraphone"), ("strings", "piano"),
    ),
    Prototype(
        "happy", ("a happy smiling child on a sunny day", "joy and laughter"),
        "happy|happi|joy|smil|laugh|sunn|cheer|fun|glad|bright|summer|delight",
        "快乐|开心|高兴|欢乐|微笑|笑|阳光|夏天|喜悦",
        118, "major", 0.65, ("flute", "marimba", "guitar"), ("piano", "guitar"),
    ),
    Prototype(
        "festive", ("people dancing at a festival with fireworks", "a birthday party with balloons"),
        "festiv|party|parties|danc|firework|carnival|birthday|celebrat|parade|wedding|christmas|new year",
        "节日|庆祝|派对|跳舞|舞|烟花|生日|狂欢|婚礼|春节|新年|热闹",
        128, "major", 0.9, ("brass", "marimba"), ("piano", "brass"),
    ),
    Prototype(
        "heroic", ("a brave knight in an epic battle", "a rocket starts into space"),
        "hero|epic|brave|battle|knight|victor|king|queen|dragon|rocket|army|warrior|eagle|glor",
        "英雄|史诗|勇敢|战斗|骑士|胜利|国王|龙|火箭|战士|鹰",
        104, "dorian", 0.8, ("brass", "strings"), ("strings", "brass"),
    ),
    Prototype(
        "dark", ("a ghost in a dark haunted house", "danger and fear at night"),
        "dark|ghost|fear|scar|haunt|horror|danger|monster|vampire|zombie|skull|bat|evil|storm|threat",
        "黑暗|鬼|恐惧|可怕|恐怖|危险|怪物|吸血鬼|僵尸|骷髅|暴风",
        84, "minor", 0.45, ("vibraphone", "strings", "pizzicato"), ("choir", "pad", "strings"),
    ),
    Prototype(
        "romantic", ("two people in love kissing", "a red rose and a heart"),
        "love|roman|kiss|heart|rose|couple|valentine|tender|bride",
        "爱|浪漫|吻|心|玫瑰|情侣|恋|温馨",
        76, "major", 0.35, ("flute", "piano", "strings"), ("strings", "guitar"),
    ),
    Prototype(
        "playful", ("a funny cat with a hat", "a clown juggling with a monkey"),
        "play|funn|clown|cat|kitten|pupp|dog|monkey|toy|hat|joke|silly|cartoon|cute|robot",
        "玩|搞笑|小丑|猫|狗|猴|玩具|帽|可爱|卡通|机器人",
        112, "major", 0.55, ("pizzicato", "marimba", "musicbox"), ("pizzicato", "guitar"),
    ),
    Prototype(
        "sea", ("waves and a beach at the sea", "a boat sails over the ocean"),
        "sea|ocean|wave|beach|boat|sail|ship|fish|whale|dolphin|island|shore|swim|river|water",
        "海|洋|浪|沙滩|船|航|鱼|鲸|岛|游泳|河|水",
        88, "lydian", 0.4, ("guitar", "flute", "marimba"), ("guitar", "pad"),
    ),
    Prototype(
        "dreamy", ("stars and the moon in the night sky", "a sleeping baby in a dream"),
        "dream|lullab|night|moon|star|sleep|sky|space|galax|snow|winter|magic|fairy|angel|cloud|unicorn",
        "梦|夜|月|星|睡|天空|太空|银河|雪|冬|魔法|仙|天使|云|独角兽",
        68, "lydian", 0.25, ("musicbox", "vibraphone"), ("pad", "choir"),
    ),
    Prototype(
        "driving", ("a fast racing car", "running and sport at full speed"),
        "fast|rac|car|run|sport|speed|train|motor|ball|jump|energ|rush|city|traffic|bike|ski",
        "快|赛|车|跑|运动|速度|火车|摩托|球|跳|城市|滑雪",
        138, "minor", 0.85, ("brass", "guitar", "marimba"), ("piano", "strings"),
    ),
    Prototype(
        "eastern", ("a Chinese temple in the mountains", "a pagoda with a red lantern and bamboo"),
        "chin|japan|temple|pagoda|lantern|bamboo|panda|kimono|asia|tea|lotus|ancient",
        "中国|古|庙|寺|塔|灯笼|竹|熊猫|茶|莲|山水|江南|长城",
        80, "pentatonic", 0.35, ("koto", "flute"), ("koto", "pad"),
    ),
)  # fmt: skip


def mood_of(prompt: str, space: JointSpace | None = None, seed: int = 0) -> Mood:
    """The mood of any text; the same for the same text, space and seed. Without a hint it is near ``calm``."""
    prompt = prompt[:MAX_READ].encode("utf-8", "ignore").decode()
    scores = np.array([WORD * kind.words(prompt) for kind in PROTOTYPES], np.float64)
    scores[0] += 0.1
    if space is not None and prompt.strip():
        scores += _nearness(prompt, space)
    order = np.argsort(-scores, kind="stable")[:MIXED]
    shares = np.exp(scores[order] - scores[order[0]])
    shares /= shares.sum()
    near = [PROTOTYPES[at] for at in order]
    # A random stream of its own, so that the same prompt with another seed is another piece of the same kind.
    chance = random.Random(f"mood {seed}")  # noqa: S311 - repeatable on purpose
    tempo = sum(share * kind.tempo for share, kind in zip(shares, near, strict=True))
    energy = sum(share * kind.energy for share, kind in zip(shares, near, strict=True))
    return Mood(
        near[0].name,
        near[0].texts[0],
        round(float(tempo) * chance.uniform(0.95, 1.05), 1),
        near[0].mode,
        SCALES[near[0].mode],
        chance.randrange(48, 60),
        round(float(energy), 3),
        _instruments(near[0], chance),
    )  # fmt: skip


def _instruments(kind: Prototype, chance: random.Random) -> tuple[str, str, str]:
    melody = chance.choice(kind.melodies)
    others = [name for name in kind.harmonies if name != melody]
    return melody, chance.choice(others or list(kind.harmonies)), kind.bass


def _nearness(prompt: str, space: JointSpace) -> np.ndarray:
    """In deviations: how near the prompt lies to each prototype's texts."""
    texts = [text for kind in PROTOTYPES for text in kind.texts]
    vectors = space.embed_texts([prompt, *texts])
    # What is near to everything says little: each text's usual nearness is taken off.
    usual = (vectors[1:] @ vectors[1:].T).mean(axis=1)
    near = (vectors[1:] @ vectors[0] - usual).reshape(len(PROTOTYPES), -1).max(axis=1)
    return np.asarray((near - near.mean()) / (near.std() + 1e-9), np.float64)
