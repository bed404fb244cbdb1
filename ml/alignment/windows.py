"""Where to look in a feature map: the pool windows of the image towers.

A classifier that sees a whole snapshot names the one thing in its middle. Pooling one dense forward over
many windows and averaging the class probabilities names several things for the price of one forward.
Pure: no imports, so that exporters, encoders and the benchmark share one truth.
"""

#: Input side in pixels by encoder; the picture is squashed to a square of that side.
INPUT_SIDES: dict[str, int] = {"efficientnet-lite0": 320, "efficientnet-lite2": 352}

#: Feature cells are 32 pixels: 320 px give a 10 x 10 map, 352 px an 11 x 11 one.
STRIDE = 32

#: Logits are divided by this before the softmax, per window.
TEMPERATURE = 1.5

#: (window side as a share of the map, windows per axis): 9 small, 4 large, 1 full.
LAYERS: tuple[tuple[float, int], ...] = ((0.5, 3), (0.75, 2), (1.0, 1))

Window = tuple[int, int, int, int]


def windows(grid: int) -> list[Window]:
    """The 14 windows (y0, y1, x0, x1), half open, over a square map of ``grid`` cells a side."""
    return [window for share, count in LAYERS for window in _layer(grid, share, count)]


def _layer(grid: int, share: float, count: int) -> list[Window]:
    side = max(1, min(grid, int(grid * share + 0.5)))
    starts = _starts(grid - side, count)
    return [(y, y + side, x, x + side) for y in starts for x in starts]


def _starts(slack: int, count: int) -> list[int]:
    """``count`` evenly spread offsets from 0 to ``slack`` (rounded half up, the same on every machine)."""
    if count == 1:
        return [slack // 2]
    return [(2 * step * slack + count - 1) // (2 * (count - 1)) for step in range(count)]
