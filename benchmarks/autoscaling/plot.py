"""The Pareto fronts as an SVG: violated seconds against replica-seconds, and against rebalances."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from html import escape

from benchmarks.autoscaling.plant import Score
from benchmarks.autoscaling.report import Comparison
from benchmarks.autoscaling.run import OURS, Setting

WIDTH, HEIGHT = 980, 470
LEFT, TOP, PANEL, DEPTH, GAP = 78, 70, 380, 300, 110
NAME = 80
"""Width of our name."""

COLOURS = {
    "keda": "#b4542b",
    "keda-lagging": "#8a6d1f",
    "keda-even": "#5b7f3a",
    "keda-60s": "#7a5aa6",
    "keda-600s": "#2b8a84",
}

WORDS = {
    "keda": "KEDA",
    "keda-lagging": "KEDA, limitToPartitionsWithLag",
    "keda-even": "KEDA, ensureEvenDistributionOfPartitions",
    "keda-60s": "KEDA, stabilization 60 s",
    "keda-600s": "600 s",
}

STYLE = """
    .page { fill: #ffffff } .axis { stroke: #8a94a3; fill: none } .grid { stroke: #e3e7ec }
    .name { fill: #1b2330; font-weight: 600 } .note { fill: #4a5565; font-size: 11.5px }
    .own { fill: #2f6fd0 } text.own { font-weight: 600 }
    @media (prefers-color-scheme: dark) {
      .page { fill: #12161c } .axis { stroke: #6b7684 } .grid { stroke: #262d37 }
      .name { fill: #e8ecf2 } .note { fill: #a9b4c2 } .own { fill: #6ea4f5 }
    }
"""

Scale = Callable[[float], float]


def draw(comparison: Comparison) -> str:
    """Return the picture."""
    totals = comparison.totals
    panels = (
        ("Replica-seconds, in thousands", lambda score: score.replica_seconds / 1000),
        ("Rebalances", lambda score: score.rebalances),
    )
    body: list[str] = []
    for number, (title, value) in enumerate(panels):
        body.extend(_panel(LEFT + number * (PANEL + GAP), title, totals, value))
    body.extend(_legend())
    text = f"One setting for all traces of the {comparison.set_name} set; the lower left is best"
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            'aria-labelledby="title description" '
            "font-family=\"system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif\" font-size=\"13\">",
            f'  <title id="title">{escape(text)}</title>',
            f'  <desc id="description">{escape(_description(comparison))}</desc>',
            f"  <style>{STYLE}  </style>",
            f'  <rect class="page" width="{WIDTH}" height="{HEIGHT}"/>',
            f'  <text class="name" x="{LEFT}" y="28">{escape(text)}</text>',
            *(f"  {one}" for one in body),
            "</svg>",
            "",
        )
    )


def _description(comparison: Comparison) -> str:
    ours = comparison.ours
    thresholds = [setting.threshold for setting in comparison.totals if setting.threshold is not None]
    return (
        f"lagscaler: {ours.violated} violated seconds, {ours.replica_seconds} replica-seconds, {ours.rebalances} "
        f"rebalances. KEDA's settings lie on five curves from thresholds of {min(thresholds)} to {max(thresholds)} "
        "records."
    )


def _panel(left: int, title: str, totals: Mapping[Setting, Score], value: Callable[[Score], float]) -> Iterator[str]:
    across = _logarithmic(max(score.violated for score in totals.values()), left)
    most = max(value(score) for score in totals.values())
    step = _step(most)
    top = step * math.ceil(most / step)

    def up(number: float) -> float:
        return round(TOP + DEPTH * (1 - number / top), 1)

    yield f'<text class="name" x="{left}" y="{TOP - 14}">{escape(title)}</text>'
    for index in range(int(top / step) + 1):
        level = index * step
        yield f'<path class="grid" d="M{left} {up(level)}h{PANEL}"/>'
        yield f'<text class="note" x="{left - 8}" y="{up(level) + 4}" text-anchor="end">{level:,.0f}</text>'
    for seconds in _ticks(max(score.violated for score in totals.values())):
        yield f'<path class="axis" d="M{across(seconds)} {TOP + DEPTH}v5"/>'
        yield (
            f'<text class="note" x="{across(seconds)}" y="{TOP + DEPTH + 19}" text-anchor="middle">{seconds:,}</text>'
        )
    yield f'<path class="axis" d="M{left} {TOP}v{DEPTH}h{PANEL}"/>'
    yield (
        f'<text class="note" x="{left + PANEL / 2}" y="{TOP + DEPTH + 37}" text-anchor="middle">'
        "seconds of violated objective (logarithmic)</text>"
    )
    for family, colour in reversed(COLOURS.items()):
        points = [
            (across(score.violated), up(value(score)), setting)
            for setting, score in totals.items()
            if setting.family == family
        ]
        if not points:
            continue
        yield (
            f'<polyline fill="none" stroke="{colour}" stroke-width="1.4" points="'
            + " ".join(f"{x},{y}" for x, y, _ in points)
            + '"/>'
        )
        for x, y, setting in points:
            yield f'<circle cx="{x}" cy="{y}" r="2.8" fill="{colour}"><title>{escape(setting.name)}</title></circle>'
    ours = totals[OURS]
    x, y = across(ours.violated), up(value(ours))
    yield f'<circle cx="{x}" cy="{y}" r="6" class="own"/>'
    # Curves come from the right: the name stands to the left where there is room.
    aside, anchor = (-10, "end") if x - left > NAME else (10, "start")
    yield f'<text class="own" x="{x + aside}" y="{y + 4}" text-anchor="{anchor}">lagscaler</text>'


def _logarithmic(most: float, left: int) -> Scale:
    """From 0 on, which a logarithm has no place for: log(1 + seconds / 10)."""
    whole = math.log1p(most / 10) or 1.0
    return lambda seconds: round(left + PANEL * math.log1p(seconds / 10) / whole, 1)


def _ticks(most: float) -> list[int]:
    return [0, *(10**power for power in range(1, 9) if 10**power <= most)]


def _step(most: float) -> float:
    """Return a round number of which four to nine make the whole."""
    power = 10.0 ** math.floor(math.log10(most or 1))
    return next(power * part for part in (0.1, 0.2, 0.25, 0.5, 1, 2) if most / (power * part) <= 8)


def _legend() -> Iterator[str]:
    place = LEFT
    for family, words in WORDS.items():
        yield f'<circle cx="{place}" cy="{HEIGHT - 22}" r="4" fill="{COLOURS[family]}"/>'
        yield f'<text class="note" x="{place + 9}" y="{HEIGHT - 18}">{escape(words)}</text>'
        place += 40 + int(6.4 * len(words))
