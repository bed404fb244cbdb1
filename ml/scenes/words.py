"""What a prompt names: known things with their colours and counts, how they stand to each other, and where.

    reading = read("a red apple on a table")     # one thing, setting "table"
    reading = read("一只戴着帽子的猫在海边散步")    # a cat, a hat that it wears, setting "sea"

Exact names of a list, English and Chinese; what is not in it is not a thing. No model, no weights: the web process asks
before anything is queued. Every scanner here is linear in the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from ml.scenes.library import Library, Thing, library

#: How a thing stands to another one. ``above``: over it in the air; ``before``: in front of it.
Relation = Literal["", "on", "under", "in", "above", "behind", "before", "worn", "held"]

#: Things that one picture holds, and how many of one thing.
MOST, MOST_OF_ONE = 5, 4

COLOURS = (
    "red", "orange", "yellow", "green", "blue", "purple", "brown", "pink", "grey", "black", "white",
)  # fmt: skip
_COLOUR_WORDS = {
    **{one: one for one in COLOURS}, "gray": "grey", "violet": "purple", "golden": "yellow",
    "crimson": "red", "scarlet": "red", "turquoise": "blue", "lilac": "purple",
}  # fmt: skip
_CHINESE_COLOURS = {
    "红": "red", "橙": "orange", "黄": "yellow", "绿": "green", "蓝": "blue", "紫": "purple", "棕": "brown",
    "粉": "pink", "灰": "grey", "黑": "black", "白": "white", "青": "green",
}  # fmt: skip
_NUMBERS = {
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "several": 3,
    "some": 2,
    "many": 4,
    "both": 2,
}
_CHINESE_NUMBERS = {"两": 2, "二": 2, "三": 3, "四": 4, "五": 5, "六": 6, "几": 3}
_MEASURES = "只个条头匹辆棵朵本把座架艘张双位群颗块片杯朵枝束台部幅顶件支根"
#: Verbs and others as often as things: only behind an article, a number or a colour.
_DOUBTFUL = frozenset(
    [
        "fly",
        "watch",
        "cook",
        "drop",
        "ring",
        "pick",
        "cooking",
        "link",
        "seat",
        "wave",
        "present",
        "mail",
        "note",
        "saw",
        "skate",
        "ski",
        "brush",
        "bath",
        "sweet",
        "home",
        "earth",
        "world",
        "wedding",
        "foot",
        "hero",
        "storm",
        "label",
        "knot",
        "wood",
        "rock",
        "construction",
        "performing",
        "back",
        "light",
        "cold",
        "tie",
        "train",
        "bat",
        "bowl",
        "cap",
        "duck",
        "fire",
        "hole",
        "bug",
        "ant",
        "pen",
        "pin",
        "plant",
        "post",
        "nose",
        "ear",
        "hand",
        "eye",
        "student",
        "teacher",
        "person",
        "man",
        "woman",
        "screen",
        "shade",
        "shades",
        "smile",
        "wing",
        "fan",
        "spade",
        "torch",
        "trunk",
        "collision",
        "key",
        "file",
    ]
)
_DETERMINERS = frozenset(
    [
        "a",
        "an",
        "the",
        "my",
        "your",
        "his",
        "her",
        "its",
        "our",
        "their",
        "this",
        "that",
        "these",
        "those",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "some",
        "several",
        "many",
        "little",
        "small",
        "big",
        "large",
        "huge",
        "tiny",
        "old",
        "young",
        "new",
        "cute",
        "happy",
        "beautiful",
        "lovely",
    ]
)

#: Where a scene is, by what is said; the first that fits, so that longer words stand first.
SETTINGS: dict[str, tuple[str, ...]] = {
    "underwater": ("underwater", "under water", "under the sea", "undersea", "sea floor", "水下", "水里", "海底"),
    "beach": ("beach", "seashore", "sand", "sands", "dunes", "沙滩", "海滩"),
    "sea": (
        "sea", "seaside", "ocean", "coast", "shore", "waves", "lake", "river", "pond", "water",
        "海边", "大海", "海上", "海里", "海", "湖边", "湖上", "湖", "河边", "河上", "河", "水边",
    ),
    "forest": ("forest", "woods", "wood", "jungle", "rainforest", "森林", "树林", "丛林", "林子", "林中"),
    "desert": ("desert", "沙漠"),
    "mountains": ("mountains", "hills", "valley", "山里", "山上", "山谷", "群山", "山间", "山脚"),
    "snow": ("snow", "snowy field", "winter", "ice", "雪地", "雪中", "雪里", "雪上", "冬天", "冰上"),
    "meadow": (
        "meadow", "grass", "field", "lawn", "park", "garden", "farm", "countryside", "pasture",
        "草地", "草原", "草坪", "公园", "花园", "田野", "农场", "院子",
    ),
    "street": ("street", "road", "city", "town", "sidewalk", "highway", "街上", "街道", "马路", "路上", "城市", "街"),
    "table": ("table", "desk", "counter", "shelf", "餐桌", "书桌", "桌子", "桌上", "桌面"),
    "room": (
        "room", "living room", "bedroom", "kitchen", "floor", "carpet", "rug", "indoors", "classroom", "office",
        "房间", "屋里", "家里", "客厅", "厨房", "卧室", "地板", "地毯", "教室", "办公室",
    ),
    "space": ("space", "outer space", "galaxy", "universe", "太空", "宇宙", "银河"),
    "sky": ("sky", "air", "clouds", "天空", "空中", "天上", "云端", "云里"),
}  # fmt: skip
HOURS: dict[str, tuple[str, ...]] = {
    "night": (
        "night",
        "midnight",
        "moonlight",
        "starlight",
        "dark",
        "夜晚",
        "夜里",
        "夜空",
        "晚上",
        "星空",
        "月光",
        "深夜",
        "月下",
    ),
    "sunset": (
        "sunset",
        "sunrise",
        "dusk",
        "dawn",
        "evening",
        "日落",
        "日出",
        "夕阳",
        "黄昏",
        "傍晚",
        "清晨",
    ),
    "rain": ("rain", "rainy", "雨中", "雨里", "下雨", "雨天"),
}
#: Settings that name things, too: they are settings only behind one of these words.
_AFTER = frozenset(
    [
        "in",
        "on",
        "at",
        "by",
        "near",
        "over",
        "through",
        "across",
        "into",
        "along",
        "beside",
        "of",
        "under",
        "around",
        "from",
        "to",
        "with",
        "front",
        "behind",
    ]
)

_WORN = frozenset(
    ("top hat", "billed cap", "crown", "graduation cap", "military helmet", "rescue worker’s helmet",
     "glasses", "sunglasses", "goggles", "scarf", "necktie", "ribbon", "t-shirt", "coat", "dress", "headphone",
     "running shoe", "socks", "gloves", "backpack", "jeans", "kimono")
)  # fmt: skip

#: Of these, what is worn on the head.
ON_HEADS = frozenset(
    ("top hat", "billed cap", "crown", "graduation cap", "military helmet", "rescue worker’s helmet", "glasses",
     "sunglasses", "goggles", "ribbon", "headphone")
)  # fmt: skip

#: What stands between two names: the first that is found there says how the first stands to the second.
_BETWEEN: tuple[tuple[str, Relation, bool], ...] = (
    # (words, relation, whether the second stands to the first)
    ("wearing|wears|dressed in|in a|in an|in his|in her", "worn", True),
    ("holding|holds|carrying|carries|playing|plays|reading|reads|eating|eats", "held", True),
    ("in front of|before", "before", False),
    ("behind|in back of", "behind", False),
    ("on top of|on|onto|upon|atop|riding|rides|sits in|stands on", "on", False),
    ("under|below|beneath|underneath", "under", False),
    ("over|above", "above", False),
    ("in|inside|into|within", "in", False),
    ("with", "worn", True),
)
_ENGLISH = re.compile(r"[a-z0-9]++(?:[’'-][a-z0-9]++)*+")
_HAN = re.compile(r"[\u3400-\u9fff]++")


@dataclass(frozen=True)
class Named:
    """A thing as a prompt names it. ``other``: the place of the thing that ``relation`` is to; -1 without one."""

    thing: Thing
    said: str
    colour: str = ""
    count: int = 1
    relation: Relation = ""
    other: int = -1

    @property
    def words(self) -> str:
        """In English, as the drawing model is asked for it."""
        colour = "" if not self.colour or self.colour in self.thing.label.split() else f"{self.colour} "
        return colour + self.thing.label


@dataclass(frozen=True)
class Reading:
    """``setting``: of SETTINGS, ``hour``: of HOURS; "" where none is named."""

    things: tuple[Named, ...] = ()
    setting: str = ""
    hour: str = ""

    @property
    def is_known(self) -> bool:
        """Whether anything at all was understood."""
        return bool(self.things or self.setting or self.hour)

    @property
    def is_scene(self) -> bool:
        """More than one thing alone before nothing."""
        several = len(self.things) > 1 or any(one.count > 1 for one in self.things)
        return bool(self.things and (several or self.setting or self.hour))


@dataclass(frozen=True)
class _Found:
    """A name, or a place or hour where ``number`` is -1, at ``start`` to ``end`` of the text."""

    start: int
    end: int
    number: int
    place: str = ""


def read(prompt: str, negative: str = "") -> Reading:
    """What a prompt of at most some thousand characters names, less what ``negative`` does. Raises LibraryError."""
    text = prompt.lower()
    known = library()
    # A text has parts in both scripts at times: positions are those of one text, so that all is in order.
    found = sorted([*_english(text, known), *_chinese(text, known)], key=lambda one: one.start)
    places = [one.place for one in found if one.place]
    things = [one for one in found if not one.place]
    unwanted = {one.thing.number for one in read(negative).things} if negative.strip() else set()
    named = _named(text, things, found, known)
    kept = _without(named, unwanted)[:MOST]
    setting = next((one for one in places if one in SETTINGS), "")
    return Reading(_faces(_inside(kept), known), setting, next((one for one in places if one in HOURS), ""))


def _without(named: Sequence[Named], unwanted: set[int]) -> list[Named]:
    """None twice, unless in another colour; relations follow."""
    places, kept = dict[int, int](), list[Named]()
    seen = dict[tuple[int, str], int]()
    for at, one in enumerate(named):
        key = (one.thing.number, one.colour)
        if one.thing.number in unwanted:
            continue
        if key in seen:
            places[at] = seen[key]
            continue
        places[at] = seen[key] = len(kept)
        kept.append(one)
    return [replace(one, other=places.get(one.other, -1)) for one in kept]


def _inside(named: Sequence[Named]) -> tuple[Named, ...]:
    """Without relations to what is not there, or to itself, or in a circle."""
    free = list[Named]()
    for at, one in enumerate(named):
        seen, other = {at}, one.other
        while 0 <= other < len(named) and other not in seen:
            seen.add(other)
            other = named[other].other if other >= at else free[other].other
        ends = other == -1 and 0 <= one.other < len(named)
        free.append(one if ends and one.relation else replace(one, relation="", other=-1))
    return tuple(free)


def _faces(named: tuple[Named, ...], known: Library) -> tuple[Named, ...]:
    """Who wears something on the head is shown by the face, where there is one: a body stands sideways."""
    heads = {one.other for one in named if one.relation == "worn" and one.thing.label in ON_HEADS}
    faces = {at: known.words["en"].get(f"{named[at].thing.label} face") for at in heads}
    return tuple(
        replace(one, thing=replace(one.thing, number=face)) if (face := faces.get(at)) is not None else one
        for at, one in enumerate(named)
    )


# --- Names ---


@cache
def _places(latin: bool) -> Mapping[str, str]:
    """Words of settings and hours in one of the scripts, to the setting or hour."""
    both = {**SETTINGS, **HOURS}
    return {word: name for name, words in both.items() for word in words if word.isascii() == latin}


def _english(text: str, known: Library) -> Iterator[_Found]:
    tokens = [(match.group(), match.start(), match.end()) for match in _ENGLISH.finditer(text)]
    at = 0
    while at < len(tokens):
        step = 1
        for length in range(min(5, len(tokens) - at), 0, -1):
            words = [word for word, _, _ in tokens[at : at + length]]
            before = tokens[at - 1][0] if at else ""
            found = _english_name(words, before, known)
            if found is not None and found[1] and before not in _AFTER:
                # "A space rocket", "the table lamp": what a thing is called, not where it is.
                rest = [word for word, _, _ in tokens[at + length : at + length + 4]]
                if _begins_with_name(rest, known):
                    found = None
            if found is not None:
                yield _Found(tokens[at][1], tokens[at + length - 1][2], *found)
                step = length
                break
        else:
            # The fruit, where no name follows that it colours.
            if tokens[at][0] == "orange" and at and tokens[at - 1][0] in _DETERMINERS:
                rest = [word for word, _, _ in tokens[at + 1 : at + 4]]
                if not _begins_with_name(rest, known):
                    yield _Found(tokens[at][1], tokens[at][2], known.words["en"]["tangerine"])
        at += step


def _begins_with_name(words: Sequence[str], known: Library) -> bool:
    found = (_english_name(words[:length], "the", known) for length in range(1, len(words) + 1))
    return any(one is not None and not one[1] for one in found)


def _english_name(words: Sequence[str], before: str, known: Library) -> tuple[int, str] | None:
    """(number, "") of a thing or (-1, place), or None."""
    said = " ".join(words)
    placed = _places(True).get(said)
    if placed is not None and (before in _AFTER or before in _DETERMINERS or said not in known.words["en"]):
        return -1, placed
    for name in (said, *_singulars(said)):
        number = known.words["en"].get(name)
        if number is not None:
            doubtful = name in _DOUBTFUL and name == said
            clear = before in _DETERMINERS or before in _COLOUR_WORDS or before in _NUMBERS
            return (number, "") if clear or not doubtful else None
    return None


def _singulars(said: str) -> Iterator[str]:
    if said.endswith("ies"):
        yield said[:-3] + "y"
    if said.endswith("ves"):
        yield said[:-3] + "f"
        yield said[:-3] + "fe"
    if said.endswith("es"):
        yield said[:-2]
    if said.endswith("s") and not said.endswith("ss"):
        yield said[:-1]
    if said.endswith("men"):
        yield said[:-3] + "man"


def _chinese(text: str, known: Library) -> Iterator[_Found]:
    names, places = known.words["zh"], _places(False)
    longest = max(map(len, names), default=0)
    for run in _HAN.finditer(text):
        at = run.start()
        while at < run.end():
            step = 1
            for length in range(min(longest, run.end() - at), 0, -1):
                said = text[at : at + length]
                if said in names:
                    yield _Found(at, at + length, names[said])
                elif said in places:
                    yield _Found(at, at + length, -1, places[said])
                else:
                    continue
                step = length
                break
            at += step


# --- What is said of them ---


def _named(text: str, things: Sequence[_Found], found: Sequence[_Found], known: Library) -> list[Named]:
    named = list[Named]()
    for at, one in enumerate(things):
        before = text[things[at - 1].end if at else 0 : one.start]
        said = text[one.start : one.end]
        thing = known.things[one.number]
        latin = said.isascii()
        colour = _colour(before) if latin else _chinese_colour(before)
        count = _count(before, said, thing) if latin else _chinese_count(before)
        named.append(Named(thing, said, colour, count))
    for at in range(len(things) - 1):
        _relate(text, things, found, named, at)
    return named


def _colour(before: str) -> str:
    """Of the words before a name: among the last two."""
    words = _ENGLISH.findall(before[-60:])[-2:]
    return next((_COLOUR_WORDS[word] for word in reversed(words) if word in _COLOUR_WORDS), "")


def _chinese_colour(before: str) -> str:
    tail = before[-4:].rstrip("的")
    tail = tail.rstrip("小大").rstrip("的").removesuffix("色")
    return _CHINESE_COLOURS.get(tail[-1:], "")


def _count(before: str, said: str, thing: Thing) -> int:
    words = _ENGLISH.findall(before[-60:])[-3:]
    said_so = [_NUMBERS.get(word, int(word) if word.isdecimal() and len(word) == 1 else 0) for word in words]
    counted = next((number for number in reversed(said_so) if number > 1), 1)
    return min(counted, MOST_OF_ONE)


def _chinese_count(before: str) -> int:
    tail = before[-6:]
    for number, sign in ((number, sign) for sign, number in _CHINESE_NUMBERS.items()):
        place = tail.rfind(sign)
        if place >= 0 and tail[place + 1 : place + 2] in _MEASURES and tail[place + 1 : place + 2]:
            return min(number, MOST_OF_ONE)
    return 1


def _relate(
    text: str, things: Sequence[_Found], found: Sequence[_Found], named: list[Named], at: int
) -> None:
    """How the thing at ``at`` and the next one stand to each other."""
    one, other = things[at], things[at + 1]
    between = text[one.end : other.start]
    if len(between) > 80 or any(mark in between for mark in ".;!?。；！？"):
        return
    if text[one.start].isascii():
        # What belongs to a place between the two says nothing about them.
        for place in found:
            if place.place and one.end <= place.start < other.start:
                between = text[place.end : other.start]
        _relate_english(between, named, at)
    else:
        after = text[other.end : other.end + 4]
        _relate_chinese(between, after, text[max(0, one.start - 3) : one.start], named, at)


def _set(named: list[Named], at: int, relation: Relation, other: int) -> None:
    if not named[at].relation:
        named[at] = replace(named[at], relation=relation, other=other)


def _relate_english(between: str, named: list[Named], at: int) -> None:
    said = f" {' '.join(_ENGLISH.findall(between))} "
    for words, relation, second in _BETWEEN:
        if not any(f" {word} " in said for word in words.split("|")):
            continue
        worn = named[at + 1].thing.label in _WORN
        if relation == "worn" and not worn:
            continue
        if second:
            _set(named, at + 1, relation, at)
        else:
            _set(named, at, relation, at + 1)
        return


_CHINESE_PLACES: tuple[tuple[tuple[str, ...], Relation], ...] = (
    (("上方", "上空"), "above"),
    (("上",), "on"),
    (("下", "底下"), "under"),
    (("里", "中", "内"), "in"),
    (("前",), "before"),
    (("后", "背后"), "behind"),
)


def _relate_chinese(between: str, after: str, before: str, named: list[Named], at: int) -> None:
    for words, relation in (("戴穿", "worn"), ("抱拿举提弹拉吹看读吃", "held"), ("骑", "on")):
        # "一只戴着帽子的猫": what is worn stands first, and the one who wears it behind "的".
        if any(word in before for word in words) and between.startswith("的"):
            if relation == "on":
                _set(named, at + 1, "on", at)
            else:
                _set(named, at, relation, at + 1)  # type: ignore[arg-type]
            return
        if any(f"{word}着" in between or between.endswith(word) for word in words):
            if relation == "on":
                _set(named, at, "on", at + 1)
            else:
                _set(named, at + 1, relation, at)  # type: ignore[arg-type]
            return
    for places, where in _CHINESE_PLACES:
        if "在" in between and after.startswith(places):
            _set(named, at, where, at + 1)
            return
        if between.startswith(places):
            _set(named, at + 1, where, at)
            return
