"""`python -m benchmarks.plot READINGS.json PLOT.svg`: what `--against` measured, as a picture.

For each process two bars, the old version above the new one: CPU microseconds per command, its own and PostgreSQL's;
thin lines span the lowest and the highest turn. Plain SVG, which browsers and repositories show as it is.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final
from xml.sax.saxutils import escape

WIDTH: Final = 720
LEFT: Final = 130
BAR: Final = 22
COLOURS: Final = {"own_us": "#3366aa", "postgres_us": "#99bbdd"}
NAMES: Final = {"own_us": "the process", "postgres_us": "PostgreSQL"}
SIDES: Final = {"old": ("old", "old again"), "new": ("new",)}


def drawing(report: Mapping[str, Any]) -> str:
    """Return the picture of a report of `benchmarks.against`."""
    hops = list(report["turns"][0]["old"])
    most = max(max(_totals(report, hop, side)) for hop in hops for side in SIDES)
    scale = (WIDTH - LEFT - 90) / most
    rows = [(hop, side) for hop in hops for side in SIDES]
    height = 60 + len(rows) * (BAR + 8) + len(hops) * 12
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-size="13" '
            'font-family="sans-serif">'
        ),
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        *_legend(),
    ]
    for number, (hop, side) in enumerate(rows):
        top = 44 + number * (BAR + 8) + (number // len(SIDES)) * 12
        parts += _row(report, hop, side, top, scale)
    return "\n".join([*parts, "</svg>", ""])


def _values(report: Mapping[str, Any], hop: str, side: str, figure: str) -> list[float]:
    return [turn[name][hop][figure] for turn in report["turns"] for name in SIDES[side]]


def _totals(report: Mapping[str, Any], hop: str, side: str) -> list[float]:
    own, theirs = (_values(report, hop, side, figure) for figure in COLOURS)
    return [one + other for one, other in zip(own, theirs, strict=True)]


def _legend() -> Iterator[str]:
    for number, (figure, colour) in enumerate(COLOURS.items()):
        left = LEFT + number * 150
        yield f'<rect x="{left}" y="12" width="12" height="12" fill="{colour}"/>'
        yield f'<text x="{left + 18}" y="23">{NAMES[figure]}</text>'
    yield f'<text x="{WIDTH - 12}" y="23" text-anchor="end">CPU us per command</text>'


def _row(report: Mapping[str, Any], hop: str, side: str, top: int, scale: float) -> Iterator[str]:
    middle, left = top + BAR // 2, float(LEFT)
    yield f'<text x="{LEFT - 8}" y="{middle + 5}" text-anchor="end">{escape(f"{hop}, {side}")}</text>'
    for figure, colour in COLOURS.items():
        width = median(_values(report, hop, side, figure)) * scale
        yield f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>'
        left += width
    yield from _span(_totals(report, hop, side), middle, scale)
    total = median(_totals(report, hop, side))
    yield f'<text x="{WIDTH - 12}" y="{middle + 5}" text-anchor="end">{total:.1f}</text>'


def _span(totals: Sequence[float], middle: int, scale: float) -> Iterator[str]:
    first, last = (LEFT + figure * scale for figure in (min(totals), max(totals)))
    yield f'<line x1="{first:.1f}" x2="{last:.1f}" y1="{middle}" y2="{middle}" stroke="#222222"/>'


def main() -> None:
    """Parse the arguments and draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plot", description=__doc__)
    parser.add_argument("readings", type=Path, help="what --against wrote with --json")
    parser.add_argument("plot", type=Path, help="where the picture is written, as SVG")
    options = parser.parse_args()
    options.plot.parent.mkdir(parents=True, exist_ok=True)
    options.plot.write_text(drawing(json.loads(options.readings.read_text())))


if __name__ == "__main__":
    main()
