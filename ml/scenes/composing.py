"""A scene from a reading of the words: where each thing stands and how large it is, the ground and the sky behind it.

What a thing looks like comes from outside (``Sprite``): drawn by a model, or taken from the library. Everything here is
rules, and the same for the same reading, size and seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.scenes.words import Named, Reading, Relation

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

WHITE = 255

# --- Sprites ---------------------------------------------------------------------------------------------
# Pictures of single things with transparency, trimmed: uint8 [h, w, 4].

#: Levels by which a pixel of a drawing on white has to differ from white to belong to the thing.
INK = 26
#: What a colour word makes of what has a colour already: hue (of 180), and how saturated and light it gets.
_PAINT: Mapping[str, tuple[int, float, float]] = {
    "red": (178, 1.1, 1.0), "orange": (12, 1.15, 1.05), "yellow": (25, 1.15, 1.15), "green": (62, 1.0, 0.95),
    "blue": (108, 1.05, 1.0), "purple": (138, 0.9, 0.95), "brown": (11, 0.75, 0.62), "pink": (166, 0.55, 1.2),
    "grey": (0, 0.0, 0.85), "black": (0, 0.1, 0.35), "white": (0, 0.06, 1.6),
}  # fmt: skip


def cut_out(drawing: Pixels) -> Pixels | None:
    """A drawing on white, uint8 [s, s, 3], without the white around it; None where nothing is left of it."""
    import cv2

    ink = (WHITE - drawing.min(axis=2)).astype(np.uint8)
    like = (ink < INK).astype(np.uint8)
    _, regions = cv2.connectedComponents(np.pad(like, 1, constant_values=1), connectivity=4)
    outside = (regions == regions[0, 0])[1:-1, 1:-1]
    inside = (~outside).astype(np.uint8)
    # Specks around it are noise of the drawing.
    _, parts, facts, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
    areas = facts[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    solid: Any = np.isin(parts, np.flatnonzero(areas >= max(0.08 * areas.max(), 1)))
    if solid.mean() < 0.02:
        return None
    # Its edge is mixed with white: a pixel of the drawing's own 64 less.
    width = 2 * max(1, round(drawing.shape[0] / 128)) + 1
    core = cv2.erode(solid.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))
    alpha: Any = cv2.GaussianBlur(core.astype(np.float32), (0, 0), max(0.6, drawing.shape[0] / 256))
    return trimmed(np.dstack([drawing, np.rint(255 * alpha).astype(np.uint8)]))


def trimmed(pixels: Pixels) -> Pixels:
    """Without rows and columns that are transparent."""
    rows, columns = (np.flatnonzero((pixels[..., 3] > 16).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return pixels
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def painted(pixels: Pixels, colour: str) -> Pixels:
    """A sprite in another colour: what is colourful in it, or all of it where hardly anything is."""
    import cv2

    hue, saturation, light = _PAINT[colour]
    space: Any = cv2.cvtColor(np.ascontiguousarray(pixels[..., :3]), cv2.COLOR_RGB2HSV).astype(np.float32)
    seen = pixels[..., 3] > 64
    vivid = space[..., 1] > 70
    chosen = vivid if vivid[seen].mean() > 0.25 else seen & (space[..., 2] > 40)
    grown = np.maximum(space[..., 1], 0 if saturation < 0.2 else 150) * saturation
    space[..., 0] = np.where(chosen, hue, space[..., 0])
    space[..., 1] = np.where(chosen, np.clip(grown, 0, 255), space[..., 1])
    space[..., 2] = np.where(chosen, np.clip(space[..., 2] * light, 0, 255), space[..., 2])
    coloured = cv2.cvtColor(np.rint(space).astype(np.uint8), cv2.COLOR_HSV2RGB)
    return np.dstack([coloured, pixels[..., 3]])


# --- Layout ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Box:
    """Where a sprite goes: the place of its thing in the reading, left and top, width and height; later ones lie over
    earlier ones. In pixels of the scene."""

    thing: int
    left: float
    top: float
    width: float
    height: float
    depth: int = 0
    stands: bool = True

    def moved(self, right: float, down: float, scale: float = 1.0) -> Box:
        return replace(
            self,
            left=self.left * scale + right,
            top=self.top * scale + down,
            width=self.width * scale,
            height=self.height * scale,
        )


#: Shares of the sides that stay free.
MARGIN, GAP = 0.04, 0.03
#: Where the feet of what stands are, and where the horizon is.
FEET, HORIZON = 0.9, 0.56
#: Things as large as this have room for others below or inside them.
TALL = 0.95
#: Of the picture, what a single thing takes.
ALONE = 0.74


def laid_out(reading: Reading, forms: Sequence[float], width: int, height: int, seed: int) -> list[Box]:
    """Boxes for all things of a reading, back to front. ``forms``: of each thing, its height by its width."""
    chance = np.random.default_rng(seed)
    clusters, floating = _clusters(reading, forms)
    if not clusters:
        clusters, floating = floating, []
    plain = not (reading.setting or reading.hour)
    lone = len(reading.things) == 1 and reading.things[0].count == 1
    top = (HORIZON - 0.1 if floating else MARGIN) * height
    bottom = height * (FEET if not plain else 1 - MARGIN)
    boxes = _standing(clusters, width, top, bottom, grounded=not plain, stands=not plain or bool(floating))
    boxes += _in_a_row(floating, width, MARGIN * height, top - GAP * height, standing=False)
    if lone:
        # Alone it needs some air around it.
        [box] = boxes
        boxes = [
            box.moved(
                (1 - ALONE) * (box.left + box.width / 2),
                (1 - ALONE) * (box.top + box.height * (0.5 if plain else 1)),
                ALONE,
            )
        ]
    if plain and not floating:
        # Nothing says where the ground is: in the middle.
        low, high = min(box.top for box in boxes), max(box.top + box.height for box in boxes)
        boxes = [box.moved(0, (height - low - high) / 2) for box in boxes]
    shift = chance.uniform(-0.012, 0.012, len(boxes)) * width
    return sorted(
        (box.moved(float(right), 0) for box, right in zip(boxes, shift, strict=True)),
        key=lambda box: box.depth,
    )


def _clusters(reading: Reading, forms: Sequence[float]) -> tuple[list[list[Box]], list[list[Box]]]:
    """What belongs together, in units of its own with its feet at 0: on the ground, and in the air."""
    things = reading.things
    ground, air = list[list[Box]](), list[list[Box]]()
    for at, one in enumerate(things):
        if one.relation and one.relation != "above":
            continue
        cluster = _group(at, one, forms)
        for other in _around(at, things):
            cluster = _joined(cluster, at, other, things[other].relation, reading, forms)
        (air if one.thing.sky or one.relation == "above" else ground).append(cluster)
    return ground, air


def _around(at: int, things: Sequence[Named]) -> list[int]:
    """Things that stand to ``at``, directly or not, nearest first."""
    found = [other for other, one in enumerate(things) if one.other == at and one.relation != "above"]
    return found + [further for other in found for further in _around(other, things)]


def _size(one: Named) -> float:
    """Of the longer side: real sizes, but far nearer to each other."""
    return 0.6 + 0.4 * one.thing.size


def _box(at: int, one: Named, forms: Sequence[float], scale: float = 1.0) -> Box:
    side = _size(one) * scale
    wide, high = (side, side * forms[at]) if forms[at] <= 1 else (side / forms[at], side)
    return Box(at, -wide / 2, -high, wide, high)


def _group(at: int, one: Named, forms: Sequence[float]) -> list[Box]:
    """As many as are named, beside each other, the second row before the first."""
    scale = 1.0 if one.count == 1 else 0.8
    single = _box(at, one, forms, scale)
    places = [(0.0, 0.0)] if one.count == 1 else [(-0.55, 0.0), (0.55, 0.0)]
    if one.count > 2:
        places = (
            [(-1.1, 0.0), (0.0, 0.0), (1.1, 0.0)]
            if one.count == 3
            else [(-0.55, -0.6), (0.55, -0.6), (-0.55, 0.5), (0.55, 0.5)]
        )
    moved = [
        replace(single.moved(right * single.width, down * single.height), depth=order)
        for order, (right, down) in enumerate(places)
    ]
    low = max(box.top + box.height for box in moved)
    return [box.moved(0, -low) for box in moved]


def _joined(
    cluster: list[Box], root: int, at: int, relation: Relation, reading: Reading, forms: Sequence[float]
) -> list[Box]:
    """The cluster with one more thing that stands to one of it."""
    one = reading.things[at]
    if one.count > 1 and relation not in ("worn", "held"):
        return _joined_group(cluster, root, at, relation, reading, forms)
    base = next((box for box in cluster if box.thing == one.other), cluster[0])
    thing = reading.things[base.thing].thing
    own = _box(at, one, forms)
    middle, feet, front = base.left + base.width / 2, base.top + base.height, base.depth + 1
    shelters = thing.size >= TALL or thing.label in ("tent", "umbrella on ground")
    if relation == "worn":
        return [*cluster, _worn(own, base, one.thing.label, front)]
    if relation == "held":
        small = own.moved(0, 0, min(1.0, 0.62 * base.width / own.width))
        return [
            *cluster,
            replace(small.moved(base.left + base.width * 0.98, feet - 0.12 * base.height), depth=front),
        ]
    if relation == "on":
        share = min(1.0, 0.95 * max(base.width, 0.75 * base.height) / own.width)
        fitted = own.moved(0, 0, max(share, 0.6))
        return [
            *cluster,
            replace(fitted.moved(middle, base.top + 0.13 * base.height), depth=front, stands=False),
        ]
    if relation == "in" and not shelters:
        fitted = own.moved(0, 0, min(1.0, max(0.6, 0.8 * base.width / own.width)))
        return [
            *cluster,
            replace(fitted.moved(middle, base.top + 0.32 * base.height), depth=base.depth - 1, stands=False),
        ]
    if relation == "under" and not shelters:
        lifted = [box.moved(0, -0.86 * own.height) for box in cluster]
        return [
            *(replace(box, stands=False) for box in lifted),
            replace(own.moved(middle, feet), depth=base.depth - 1),
        ]
    if relation in ("under", "in"):
        small = own.moved(0, 0, 0.66)
        return [
            *cluster,
            replace(small.moved(middle + 0.5 * base.width, feet + 0.05 * base.height), depth=front),
        ]
    # What is nearer stands lower, so that both are seen.
    if relation == "before":
        return [
            *cluster,
            replace(own.moved(middle - 0.42 * base.width, feet + 0.4 * own.height), depth=front),
        ]
    if relation == "behind":
        raised = feet - 0.4 * base.height
        return [*cluster, replace(own.moved(middle + 0.42 * base.width, raised), depth=base.depth - 1)]
    return [*cluster, own.moved(middle + 0.5 * (base.width + own.width) + GAP, feet)]


def _joined_group(
    cluster: list[Box], root: int, at: int, relation: Relation, reading: Reading, forms: Sequence[float]
) -> list[Box]:
    """Several of one thing stand where a single one of their common size would."""
    group = _group(at, reading.things[at], forms)
    left, right = min(box.left for box in group), max(box.left + box.width for box in group)
    high = -min(box.top for box in group)
    single = replace(reading.things[at], count=1)
    things = (*reading.things[:at], single, *reading.things[at + 1 :])
    wide = [high / (right - left) if place == at else form for place, form in enumerate(forms)]
    *others, frame = _joined(cluster, root, at, relation, replace(reading, things=things), wide)
    scale = frame.width / (right - left)
    middle, feet = frame.left + frame.width / 2, frame.top + frame.height
    inside = [
        replace(
            box.moved(middle - scale * (left + right) / 2, feet, scale),
            depth=frame.depth,
            stands=frame.stands,
        )
        for box in group
    ]
    return [*others, *inside]


def _worn(own: Box, base: Box, label: str, depth: int) -> Box:
    """A hat on the head, glasses before the eyes, the rest at the side of the body."""
    middle, feet = base.left + base.width / 2, base.top + base.height
    if "hat" in label or "cap" in label or "helmet" in label or label in ("crown", "ribbon", "headphone"):
        fitted = own.moved(0, 0, 0.8 * base.width / own.width)
        return replace(fitted.moved(middle, base.top + 0.17 * base.height), depth=depth, stands=False)
    if "glasses" in label or label == "goggles":
        fitted = own.moved(0, 0, 0.9 * base.width / own.width)
        return replace(fitted.moved(middle, base.top + 0.56 * base.height), depth=depth, stands=False)
    if label in ("scarf", "necktie"):
        fitted = own.moved(0, 0, 0.5 * base.width / own.width)
        return replace(fitted.moved(middle, feet + 0.05 * base.height), depth=depth, stands=False)
    fitted = own.moved(0, 0, min(1.0, 0.6 * base.width / own.width))
    return replace(fitted.moved(base.left + base.width, feet), depth=depth)


def _standing(
    clusters: Sequence[Sequence[Box]], width: int, top: float, bottom: float, *, grounded: bool, stands: bool
) -> list[Box]:
    """In one row, or in two, the second before the first, where all are larger so."""
    one = _in_a_row(clusters, width, top, bottom, standing=stands)
    if len(clusters) < 3:
        return one
    half, middle = len(clusters) // 2, top + 0.5 * (bottom - top)
    # On the ground the back row stands behind the front one, which hides its feet.
    feet = top + 0.74 * (bottom - top) if grounded else middle
    front = _in_a_row(clusters[half:], width, middle, bottom, standing=stands)
    # A box has its size in the cluster by its scale.
    scale = front[0].width / clusters[half][0].width
    back = _in_a_row(clusters[:half], width, top, feet, standing=stands, most=1.15 * scale)
    two = [*back, *(replace(box, depth=box.depth + 100) for box in front)]
    least = [min(max(box.width, box.height) for box in boxes) for boxes in (one, two)]
    return two if least[1] > 1.1 * least[0] else one


def _in_a_row(
    clusters: Sequence[Sequence[Box]],
    width: int,
    top: float,
    bottom: float,
    *,
    standing: bool,
    most: float = np.inf,
) -> list[Box]:
    """Clusters side by side, as large as there is room: with their feet at ``bottom``, or in the middle between."""
    if not clusters:
        return []
    spans = [(min(box.left for box in one), max(box.left + box.width for box in one)) for one in clusters]
    heights = [max(box.top + box.height for box in one) - min(box.top for box in one) for one in clusters]
    room = width * (1 - 2 * MARGIN - GAP * (len(clusters) - 1))
    scale = min(most, room / sum(right - left for left, right in spans), (bottom - top) / max(heights))
    used = scale * sum(right - left for left, right in spans)
    gap = (width - used) / (len(clusters) + 1)
    boxes, at = list[Box](), gap
    for order, (one, (left, right), high) in enumerate(zip(clusters, spans, heights, strict=True)):
        low = max(box.top + box.height for box in one)
        feet = bottom if standing else (top + bottom + scale * high) / 2
        boxes += [
            replace(box.moved(at - scale * left, feet - scale * low, scale), depth=10 * order + box.depth)
            for box in one
        ]
        at += scale * (right - left) + gap
    return boxes


# --- Grounds ---------------------------------------------------------------------------------------------
# Quiet enough that what stands before them is seen first.

_SKIES: Mapping[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "": ((168, 212, 244), (232, 244, 252)),
    "night": ((22, 30, 66), (70, 84, 138)),
    "sunset": ((122, 118, 178), (255, 206, 150)),
    "rain": ((132, 146, 162), (196, 206, 214)),
}
_LANDS: Mapping[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "": ((214, 232, 196), (186, 216, 162)),
    "meadow": ((196, 226, 160), (146, 200, 112)),
    "forest": ((176, 206, 150), (128, 172, 110)),
    "mountains": ((196, 218, 176), (156, 194, 138)),
    "snow": ((236, 244, 252), (250, 252, 255)),
    "desert": ((244, 220, 166), (232, 198, 136)),
    "street": ((202, 204, 210), (168, 170, 178)),
    "sea": ((108, 182, 216), (66, 148, 196)),
    "beach": ((244, 226, 180), (236, 212, 158)),
}
_WALLS = ((246, 236, 220), (238, 224, 204))
_BOARDS = ((206, 164, 118), (178, 134, 90))


def background(reading: Reading, width: int, height: int, seed: int) -> Floats:
    """The ground and what is behind it, float32 [h, w, 3] in 0 to 255; plain white where nothing says where it is."""
    setting, hour = reading.setting, reading.hour
    if not (setting or hour):
        return np.full((height, width, 3), WHITE, np.float32)
    chance = np.random.default_rng(seed)
    if setting == "underwater":
        return _fade((122, 200, 226), (28, 98, 158), height, width)
    if setting == "space":
        return _starry(_fade((16, 14, 40), (40, 32, 80), height, width), chance, 1.0)
    if setting in ("table", "room"):
        return _indoors(setting, width, height)
    sky = _fade(*_SKIES[hour], height, width)
    if hour == "night":
        sky = _starry(sky, chance, HORIZON)
    if setting == "sky":
        return sky
    picture = _behind(sky, setting, chance)
    horizon = round(HORIZON * height)
    land = _fade(*_LANDS[setting], height - horizon, width)
    picture[horizon:] = land
    if setting == "sea":
        sand = round(0.74 * height)
        picture[sand:] = _fade(*_LANDS["beach"], height - sand, width)
        _surf(picture, sand)
    elif setting == "beach":
        water = round(0.66 * height)
        picture[horizon:water] = _fade(*_LANDS["sea"], water - horizon, width)
        _surf(picture, water)
    elif setting == "street":
        _lines(picture, horizon)
    picture[horizon:] = _tinted(picture[horizon:], hour)
    return _rainy(picture, chance) if hour == "rain" else picture


def _rainy(picture: Floats, chance: np.random.Generator) -> Floats:
    import cv2

    height, width = picture.shape[:2]
    layer = picture.copy()
    for x, y in chance.uniform(0, 1, (90, 2)):
        start = int(x * width), int(y * height)
        cv2.line(
            layer, start, (start[0] - width // 60, start[1] + height // 22), (226, 236, 246), 1, cv2.LINE_AA
        )
    return (0.45 * picture + 0.55 * layer).astype(np.float32)


def _fade(top: tuple[int, int, int], bottom: tuple[int, int, int], height: int, width: int) -> Floats:
    share = np.linspace(0, 1, max(height, 1), dtype=np.float32)[:, None, None]
    column = np.array(top, np.float32) * (1 - share) + np.array(bottom, np.float32) * share
    return np.repeat(column, width, axis=1)[:height]


def _starry(sky: Floats, chance: np.random.Generator, share: float) -> Floats:
    height, width = sky.shape[:2]
    for _ in range(60):
        y, x = int(chance.uniform(0, share * height)), int(chance.uniform(0, width))
        size = max(1, round(width / 400))
        sky[y : y + size, x : x + size] = chance.uniform(150, 235)
    return sky


def _indoors(setting: str, width: int, height: int) -> Floats:
    picture = _fade(*_WALLS, height, width)
    edge = round((0.7 if setting == "table" else 0.66) * height)
    if setting == "table":
        picture[edge:] = _fade(*_BOARDS, height - edge, width)
        picture[edge : edge + max(2, height // 90)] = (224, 186, 142)
        front = round(0.96 * height)
        picture[front:] = (140, 102, 66)
    else:
        picture[edge:] = _fade((214, 190, 160), (196, 168, 136), height - edge, width)
        picture[edge - max(2, height // 60) : edge] = (250, 246, 238)
    return picture


def _behind(sky: Floats, setting: str, chance: np.random.Generator) -> Floats:
    """What rises over the horizon, pale: woods, mountains, houses."""
    import cv2

    height, width = sky.shape[:2]
    horizon = round(HORIZON * height)
    picture = sky.copy()
    layer = picture.copy()
    if setting == "forest":
        for x in np.arange(0, width + 40, width / 11):
            tall = chance.uniform(0.2, 0.34) * height
            wide = width / 14
            tree = np.array([[x - wide, horizon], [x + wide, horizon], [x, horizon - tall]], np.int32)
            cv2.fillPoly(layer, [tree], (126, 168, 126), cv2.LINE_AA)
    elif setting == "mountains":
        for x in np.arange(-0.1, 1.1, 0.3) * width:
            tall = chance.uniform(0.2, 0.36) * height
            peak = np.array(
                [[x - width / 4, horizon], [x + width / 4, horizon], [x, horizon - tall]], np.int32
            )
            cv2.fillPoly(layer, [peak], (150, 166, 190), cv2.LINE_AA)
    elif setting == "street":
        x = 0.0
        while x < width:
            wide, tall = chance.uniform(0.1, 0.18) * width, chance.uniform(0.14, 0.34) * height
            cv2.rectangle(
                layer, (int(x), int(horizon - tall)), (int(x + wide) - 3, horizon), (178, 184, 200), -1
            )
            x += wide
    elif setting in ("meadow", "desert", "snow"):
        colour = {"meadow": (170, 208, 150), "desert": (236, 206, 152), "snow": (222, 234, 246)}[setting]
        for x in (0.2, 0.75):
            centre, axes = (int(x * width), horizon + height // 12), (int(0.5 * width), height // 6)
            cv2.ellipse(layer, centre, axes, 0, 180, 360, colour, -1, cv2.LINE_AA)
    return (0.45 * picture + 0.55 * layer).astype(np.float32)


def _surf(picture: Floats, at: int) -> None:
    height, width = picture.shape[:2]
    rows = at + np.rint(np.sin(np.linspace(0, 9, width)) * height / 150).astype(int)
    for x, y in enumerate(rows):
        picture[y - max(2, height // 110) : y, x] = (240, 250, 252)


def _lines(picture: Floats, horizon: int) -> None:
    height, width = picture.shape[:2]
    at = horizon + round(0.5 * (height - horizon))
    for x in range(0, width, width // 6):
        picture[at : at + height // 90, x : x + width // 12] = (238, 238, 232)


_AMBIENT: Mapping[str, tuple[float, float, float]] = {
    "night": (0.62, 0.66, 0.86),
    "sunset": (1.0, 0.9, 0.8),
    "rain": (0.88, 0.91, 0.95),
    "underwater": (0.84, 0.96, 1.0),
}


def _tinted(pixels: Floats, hour: str, strength: float = 1.0) -> Floats:
    tint = np.array(_AMBIENT.get(hour, (1.0, 1.0, 1.0)), np.float32)
    return (pixels * (1 - strength + strength * tint)).astype(np.float32)


# --- Painting --------------------------------------------------------------------------------------------

#: How much of the light of the hour falls on what stands there: more of it is prettier, and harder to recognise.
LIGHT = 0.5
SHADOW = 0.22


def composed(reading: Reading, sprites: Sequence[Pixels], width: int, height: int, seed: int) -> Pixels:
    """The scene, uint8 [h, w, 3]. ``sprites``: of each thing of the reading, uint8 [h, w, 4], trimmed."""
    picture = background(reading, width, height, seed)
    boxes = laid_out(reading, [one.shape[0] / one.shape[1] for one in sprites], width, height, seed)
    has_ground = bool(reading.setting or reading.hour) and reading.setting not in (
        "sky",
        "space",
        "underwater",
    )
    for box in boxes:
        if has_ground and box.stands and not reading.things[box.thing].thing.sky:
            _cast(picture, box)
    light = reading.setting if reading.setting == "underwater" else reading.hour
    for box in boxes:
        _put(picture, sprites[box.thing], box, light)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _cast(picture: Floats, box: Box) -> None:
    """A soft shadow on the ground below it."""
    height, width = picture.shape[:2]
    x, y = box.left + box.width / 2, box.top + box.height * 0.985
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    far = ((columns - x) / (0.5 * box.width)) ** 2 + ((rows - y) / (0.085 * box.width)) ** 2
    picture *= (1 - SHADOW * np.clip(1.25 - far, 0, 1))[..., None]


def _put(picture: Floats, sprite: Pixels, box: Box, light: str) -> None:
    import cv2

    height, width = picture.shape[:2]
    wide, high = max(1, round(box.width)), max(1, round(box.height))
    planes = sprite.astype(np.float32)
    planes[..., :3] *= planes[..., 3:] / 255
    smaller = wide < sprite.shape[1]
    large: Any = cv2.resize(
        planes, (wide, high), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    )
    left, top = round(box.left), round(box.top)
    x0, y0, x1, y1 = max(0, left), max(0, top), min(width, left + wide), min(height, top + high)
    if x0 >= x1 or y0 >= y1:
        return
    part = np.clip(large[y0 - top : y1 - top, x0 - left : x1 - left], 0, 255)
    alpha = part[..., 3:] / 255
    coloured = _tinted(part[..., :3], light, LIGHT)
    picture[y0:y1, x0:x1] = picture[y0:y1, x0:x1] * (1 - alpha) + coloured
