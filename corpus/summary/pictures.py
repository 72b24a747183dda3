"""Pictures as inline SVG: columns and a log-log curve. Colours come from the page's style, so they follow light and dark."""

import math
from collections.abc import Sequence

from corpus.summary.markup import Markup, el, short

WIDTH, HEIGHT = 360, 170
LEFT, RIGHT, TOP, BOTTOM = 42, 8, 10, 26

Point = tuple[float, float]


def columns(values: Sequence[int], labels: Sequence[str], title: str, tips: Sequence[str]) -> Markup:
    """A column for each value; of the labels as many are shown as there is room for; tips appear on hovering."""
    most = max([*values, 1])
    width = (WIDTH - LEFT - RIGHT) / max(len(values), 1)
    step = max(1, math.ceil(len(values) / 8))
    parts = [_scale(most)]
    for n, (value, label, tip) in enumerate(zip(values, labels, tips, strict=True)):
        height = (HEIGHT - TOP - BOTTOM) * value / most
        x, y = LEFT + n * width, HEIGHT - BOTTOM - height
        bar = el(
            "rect", x=_px(x + 0.5), y=_px(y), width=_px(max(width - 1, 0.5)), height=_px(height), class_="bar"
        )
        hover = el("rect", x=_px(x), y=TOP, width=_px(width), height=HEIGHT - TOP - BOTTOM, class_="hover")
        parts.append(el("g", el("title", tip), bar, hover))
        if n % step == 0:
            parts.append(_label(x + width / 2, HEIGHT - 9, label, "middle"))
    return _svg(title, parts)


def _scale(most: int) -> Markup:
    """Lines at half and all of the largest value."""
    parts = []
    for value in (most, most / 2):
        y = TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / most)
        parts.append(el("line", x1=LEFT, x2=WIDTH - RIGHT, y1=_px(y), y2=_px(y), class_="grid"))
        parts.append(_label(LEFT - 5, y + 4, short(round(value)), "end"))
    base = HEIGHT - BOTTOM
    parts.append(el("line", x1=LEFT, x2=WIDTH - RIGHT, y1=base, y2=base, class_="axis"))
    return el("g", *parts)


def curve(points: Sequence[tuple[int, int]], title: str, x_name: str, y_name: str) -> Markup:
    """Positive points on two logarithmic axes, with the line of slope -1 through the first for comparison."""
    if not points:
        return _svg(title, [])
    right = max(1.0, math.log10(max(x for x, _ in points)))
    top = max(1.0, math.log10(max(y for _, y in points)))

    def at(x: float, y: float) -> Point:
        """From logarithms to the picture."""
        return (
            LEFT + (WIDTH - LEFT - RIGHT) * x / right,
            HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y / top,
        )

    parts = []
    for power in range(int(right) + 1):
        x, _ = at(power, 0)
        parts += [_grid(x, x, TOP, HEIGHT - BOTTOM), _label(x, HEIGHT - 9, short(10**power), "middle")]
    for power in range(int(top) + 1):
        _, y = at(0, power)
        parts += [_grid(LEFT, WIDTH - RIGHT, y, y), _label(LEFT - 5, y + 4, short(10**power), "end")]
    first = math.log10(points[0][1])
    parts.append(_path([at(0, first), at(min(first, right), max(0.0, first - right))], "guide"))
    parts.append(_path([at(math.log10(x), math.log10(y)) for x, y in points], "curve"))
    parts.append(_label(WIDTH - RIGHT, TOP + 10, f"{y_name} by {x_name}", "end"))
    return _svg(title, parts)


def _grid(x1: float, x2: float, y1: float, y2: float) -> Markup:
    return el("line", x1=_px(x1), x2=_px(x2), y1=_px(y1), y2=_px(y2), class_="grid")


def _path(points: Sequence[Point], name: str) -> Markup:
    return el("path", d="M" + "L".join(f"{_px(x)} {_px(y)}" for x, y in points), class_=name)


def _label(x: float, y: float, text: str, anchor: str) -> Markup:
    return el("text", text, x=_px(x), y=_px(y), text_anchor=anchor)


def _svg(title: str, parts: Sequence[Markup]) -> Markup:
    return el(
        "svg", el("title", title), *parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=title
    )


def _px(value: float) -> str:
    """Two digits, so that the bytes of a page do not hang on the last bits of a division."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
