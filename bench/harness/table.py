"""The tables of a run as Markdown, and their place in `docs/PERFORMANCE.md`."""

from __future__ import annotations

from pathlib import Path

from .summary import Limit, Row, Target

BEGIN = "<!-- bench/run writes from here -->"
END = "<!-- to here -->"

KINDS = {"unique": "new pictures", "repeated": "repeated pictures", "jobs": "jobs accepted (`POST /jobs`)"}
SYSTEMS = {
    "embedded": "Selvage, embedded",
    "fleet": "Selvage, fleet of 2 workers",
    "fleet-of-one": "Selvage, fleet of 1 worker",
    "fastapi": "FastAPI + uvicorn",
    "celery": "FastAPI + Celery + RabbitMQ + Redis",
    "constant": "axum, constant answer",
}
PROCESSES = ("gateway", "worker", "server", "front", "broker", "redis", "client")


def document(rows: list[Row], limits: list[Limit], targets: list[Target], facts: list[str]) -> str:
    """All tables of a run."""
    parts = ["\n".join(f"- {fact}" for fact in facts)]
    if limits:
        parts.append(f"### ONNX Runtime alone\n\n{limit_table(limits)}")
    for kind, title in KINDS.items():
        chosen = [row for row in rows if row.kind == kind and not row.at_rate]
        if chosen:
            parts.append(f"### {title[0].upper()}{title[1:]}\n\n{load_table(chosen)}")
    at_rate = [row for row in rows if row.at_rate]
    if at_rate:
        parts.append(f"### New pictures at 70 % of the system's own peak\n\n{load_table(at_rate)}")
    parts.append(f"### Processor time per request, in µs\n\n{cpu_table(rows)}")
    if targets:
        parts.append(f"### Targets\n\n{target_table(targets)}")
    return "\n\n".join(parts)


def limit_table(limits: list[Limit]) -> str:
    """What ONNX Runtime alone does."""
    lines = [
        f"| {limit.threads} | {limit.batch} | {number(limit.images_per_second)} "
        f"| {number(limit.lowest)}–{number(limit.highest)} | {limit.us_per_image:.0f} |"
        for limit in limits
    ]
    return table(["threads", "batch", "images/s", "range", "µs per image and thread"], lines, left=0)


def load_table(rows: list[Row]) -> str:
    """Rates and latencies."""
    lines = [
        f"| {SYSTEMS.get(row.system, row.system)} | {row.connections} | {number(row.requests_per_second)} "
        f"| {number(row.lowest)}–{number(row.highest)} | {ms(row.p50)} | {ms(row.p95)} | {ms(row.p99)} | {row.foreign_cores:.2f} |"
        for row in rows
    ]
    header = ["", "connections", "requests/s", "range", "p50 ms", "p95 ms", "p99 ms", "foreign cores"]
    return table(header, lines)


def cpu_table(rows: list[Row]) -> str:
    """Processor time by process."""
    used = [name for name in PROCESSES if any(name in row.cpu_us for row in rows)]
    lines = []
    for row in rows:
        load = f"{KINDS[row.kind]}, {row.connections}" + (", 70 %" if row.at_rate else "")
        cells = [f"{row.cpu_us[name]:.0f}" if name in row.cpu_us else "" for name in used]
        lines.append(f"| {SYSTEMS.get(row.system, row.system)} | {load} | {' | '.join(cells)} | {sum(row.cpu_us.values()):.0f} |")
    return table(["", "load, connections", *used, "all"], lines, left=2)


def target_table(targets: list[Target]) -> str:
    """Targets and whether they were met."""
    lines = [
        f"| {target.what} | {target.wanted} | {number(target.value) if target.value >= 100 else f'{target.value:.2f}'} "
        f"| {'yes' if target.is_met else 'no'} |"
        for target in targets
    ]
    return table(["", "target", "measured", "met"], lines)


def table(header: list[str], lines: list[str], left: int = 1) -> str:
    """A Markdown table whose first columns are text and whose others are numbers."""
    rule = "|".join("---" if at < left else "---:" for at in range(len(header)))
    return "\n".join([f"| {' | '.join(header)} |", f"|{rule}|", *lines])


def number(value: float) -> str:
    """A count with its thousands apart."""
    return f"{value:,.0f}"


def ms(value: float) -> str:
    """Milliseconds with three digits that matter."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def write_into(path: Path, text: str) -> bool:
    """Puts the text between the markers of a page; tells whether the page has them."""
    page = path.read_text() if path.exists() else ""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        return False
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")
    return True
