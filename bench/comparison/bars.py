"""Bars on one logarithmic axis, as an SVG. Written by hand: it needs nothing."""

import dataclasses

from .plot import Axis, decades, rule, text

LABELS, WIDTH, RIGHT, ROW, TOP, BOTTOM = 210, 760, 80, 24, 44, 40
OURS, THEIRS = "#d62728", "#7f7f7f"


@dataclasses.dataclass(frozen=True)
class Bar:
    label: str
    value: float  # positive
    note: str  # at its end
    color: str = OURS
    hollow: bool = False


def draw(title: str, unit: str, bars: list[Bar]) -> str:
    low, high = decades([bar.value for bar in bars])
    across = Axis(10.0**low, 10.0**high, LABELS, WIDTH - RIGHT)
    bottom = TOP + ROW * len(bars)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + BOTTOM}" font-family="sans-serif">',
        '<rect width="100%" height="100%" fill="white"/>',
        text(WIDTH / 2, 20, title, size=14),
    ]
    for power in range(low, high + 1):
        place = across.place(10.0**power)
        parts += [rule(place, TOP - 6, place, bottom), text(place, bottom + 16, f"{10**power:,}")]
    parts.append(text((LABELS + WIDTH - RIGHT) / 2, bottom + 33, unit))
    for i, bar in enumerate(bars):
        y, end = TOP + ROW * i, across.place(bar.value)
        look = f'fill="white" stroke="{bar.color}"' if bar.hollow else f'fill="{bar.color}" stroke="{bar.color}"'
        parts.append(f'<rect x="{LABELS}" y="{y + 4}" width="{end - LABELS:.1f}" height="{ROW - 8}" {look}/>')
        parts += [text(LABELS - 8, y + 16, bar.label, "end"), text(end + 6, y + 16, bar.note, "start", size=11)]
    return "\n".join([*parts, "</svg>", ""])
