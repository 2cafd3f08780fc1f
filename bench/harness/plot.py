"""The plot of a run: requests per second as bars, written as SVG by hand, so that nothing has to be installed."""

from __future__ import annotations

from html import escape

from .summary import REFERENCE_CONNECTIONS, Limit, Row
from .table import SYSTEMS, number

WIDTH, LABEL_WIDTH, VALUE_WIDTH = 760, 250, 90
BAR, GAP, TITLE = 22, 8, 40
OWN, OTHER, BOUND = "#2f6f8f", "#b8b2a7", "#d9d5cd"
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#222}.title{font-weight:600}"
    "@media(prefers-color-scheme:dark){text{fill:#eee}}"
)


def svg(rows: list[Row], limits: list[Limit]) -> str:
    """Two groups of bars: new and repeated pictures at 64 connections, each beside its limit."""
    many = [limit for limit in limits if limit.threads > 1]
    ceiling = max((limit.images_per_second for limit in many), default=None)
    chosen = [row for row in rows if row.connections == REFERENCE_CONNECTIONS and not row.at_rate]
    new = [(row.system, row.requests_per_second) for row in chosen if row.kind == "unique"]
    if ceiling is not None:
        new.append(("ONNX Runtime alone", ceiling))
    repeated = [(row.system, row.requests_per_second) for row in chosen if row.kind == "repeated"]
    parts, top = [], 0
    for title, bars in (("New pictures", new), ("Repeated pictures", repeated)):
        if bars:
            parts.append(group(f"{title}, {REFERENCE_CONNECTIONS} connections: requests/s", bars, top))
            top += TITLE + len(bars) * (BAR + GAP) + GAP
    size = f'width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><style>{STYLE}</style>{"".join(parts)}</svg>\n'


def group(title: str, bars: list[tuple[str, float]], top: int) -> str:
    """One group of bars on a scale of its own, from a place on."""
    longest = max(value for _, value in bars)
    room = WIDTH - LABEL_WIDTH - VALUE_WIDTH
    parts = [f'<text class="title" x="0" y="{top + 24}">{escape(title)}</text>']
    for at, (system, value) in enumerate(bars):
        y = top + TITLE + at * (BAR + GAP)
        width = max(1.0, room * value / longest) if longest else 1.0
        middle = y + BAR / 2 + 5
        parts.append(f'<text x="{LABEL_WIDTH - 10}" y="{middle}" text-anchor="end">{escape(SYSTEMS.get(system, system))}</text>')
        parts.append(f'<rect x="{LABEL_WIDTH}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colour(system)}"/>')
        parts.append(f'<text x="{LABEL_WIDTH + width + 8:.1f}" y="{middle}">{number(value)}</text>')
    return "".join(parts)


def colour(system: str) -> str:
    """Ours, others, limits."""
    if system in ("embedded", "fleet"):
        return OWN
    return BOUND if system in ("constant", "ONNX Runtime alone") else OTHER
