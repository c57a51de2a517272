"""Milliseconds over L as an SVG of two panels with logarithmic axes. Written by hand: it needs nothing."""

import dataclasses
import html
import math

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 440, 360, 62, 40, 46
COLORS = ("#d62728", "#7f7f7f", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf")


@dataclasses.dataclass(frozen=True)
class Line:
    label: str
    points: list[tuple[float, float]]  # x and y, both positive
    color: str
    dashed: bool = False


@dataclasses.dataclass(frozen=True)
class Axis:
    """Logarithmic, from `low` to `high`, over pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        part = (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return self.start + part * (self.end - self.start)


def decades(values: list[float]) -> tuple[int, int]:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def text(x: float, y: float, words: str, anchor: str = "middle", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{html.escape(words)}</text>'


def rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'


def panel(title: str, lines: list[Line], offset: float) -> list[str]:
    xs = sorted({x for line in lines for x, _ in line.points})
    low, high = decades([y for line in lines for _, y in line.points])
    left, right, top, bottom = offset + LEFT, offset + WIDTH - 12, TOP, HEIGHT - BOTTOM
    across = Axis(xs[0] / 1.1, xs[-1] * 1.1, left, right)
    up = Axis(10.0**low, 10.0**high, bottom, top)
    parts = [text((left + right) / 2, TOP - 16, title, size=14), text((left + right) / 2, HEIGHT - 8, "L")]
    last = -math.inf
    for x in xs:
        place = across.place(x)
        parts.append(rule(place, top, place, bottom))
        if place - last > 30:  # room for the number
            parts.append(text(place, bottom + 16, f"{x:g}"))
            last = place
    for power in range(low, high + 1):
        place = up.place(10.0**power)
        parts += [rule(left, place, right, place), text(left - 6, place + 4, f"{10.0**power:g}", "end")]
    parts.append(text(left - 6, top - 10, "ms", "end"))
    for line in lines:
        places = [(across.place(x), up.place(y)) for x, y in sorted(line.points)]
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{line.color}" stroke-width="2"{dash}/>')
        if not line.dashed:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{line.color}"/>' for x, y in places]
    return parts


def legend(lines: list[Line], offset: float) -> list[str]:
    parts = []
    for i, line in enumerate(lines):
        y = TOP + 12 + 20 * i
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        parts.append(
            f'<line x1="{offset}" y1="{y}" x2="{offset + 24}" y2="{y}" stroke="{line.color}" stroke-width="2"{dash}/>'
        )
        parts.append(text(offset + 30, y + 4, line.label, "start"))
    return parts


def draw(title: str, panels: dict[str, list[Line]]) -> str:
    """Panels side by side, by title, and one legend. A panel without lines is left out; "" if all are."""
    panels = {name: [line for line in lines if line.points] for name, lines in panels.items()}
    panels = {name: lines for name, lines in panels.items() if lines}
    if not panels:
        return ""
    shown = {line.label: line for lines in panels.values() for line in lines}
    width = WIDTH * len(panels) + 170
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT + 24}" font-family="sans-serif">',
        '<rect width="100%" height="100%" fill="white"/>',
        text(width / 2, 18, title, size=14),
        '<g transform="translate(0 24)">',
    ]
    for i, (name, lines) in enumerate(panels.items()):
        parts += panel(name, lines, WIDTH * i)
    return "\n".join([*parts, *legend(list(shown.values()), WIDTH * len(panels) + 8), "</g>", "</svg>", ""])
