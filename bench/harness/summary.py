"""From the reports of all rounds to one row per load: medians, ranges, ratios. No text is formatted here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

# The load whose figures are set in relation to each other.
REFERENCE_CONNECTIONS = 64


@dataclass(frozen=True)
class Row:
    """One load on one system over all rounds; latencies in ms, processor time in microseconds per request."""

    system: str
    kind: str
    connections: int
    at_rate: bool
    requests_per_second: float
    lowest: float
    highest: float
    p50: float
    p95: float
    p99: float
    cpu_us: dict[str, float]
    foreign_cores: float


def rows(points: list[dict]) -> list[Row]:
    """One row for each system and load, in the order in which they were first measured."""
    groups: dict[tuple, list[dict]] = {}
    for point in points:
        key = (point["system"], point["kind"], point["connections"], point["rate"] is not None)
        groups.setdefault(key, []).append(point["report"])
    return [row(*key, reports) for key, reports in groups.items()]


def row(system: str, kind: str, connections: int, at_rate: bool, reports: list[dict]) -> Row:
    """The medians of one load's reports."""
    rates = [report["requests_per_second"] for report in reports]
    of = lambda read: median(read(report) for report in reports)
    names = sorted({name for report in reports for name in report["cpu_us_per_request"]})
    return Row(
        system=system,
        kind=kind,
        connections=connections,
        at_rate=at_rate,
        requests_per_second=median(rates),
        lowest=min(rates),
        highest=max(rates),
        p50=of(lambda report: report["latency_ms"]["p50"]),
        p95=of(lambda report: report["latency_ms"]["p95"]),
        p99=of(lambda report: report["latency_ms"]["p99"]),
        cpu_us={name: of(lambda report: report["cpu_us_per_request"].get(name, 0.0)) for name in names},
        foreign_cores=max(report["foreign_cores"] for report in reports),
    )


@dataclass(frozen=True)
class Limit:
    """What ONNX Runtime alone did over all rounds."""

    threads: int
    batch: int
    images_per_second: float
    lowest: float
    highest: float
    us_per_image: float


def limits(reports: list[dict]) -> list[Limit]:
    """One limit for each number of threads and batch size."""
    groups: dict[tuple, list[dict]] = {}
    for report in reports:
        for run in report["runs"]:
            groups.setdefault((report["threads"], run["batch"]), []).append(run)
    return [
        Limit(
            threads,
            batch,
            median(run["images_per_second"] for run in runs),
            min(run["images_per_second"] for run in runs),
            max(run["images_per_second"] for run in runs),
            median(run["us_per_image"] for run in runs),
        )
        for (threads, batch), runs in groups.items()
    ]


@dataclass(frozen=True)
class Target:
    """One of the figures this project is held to, as far as the run measured it."""

    what: str
    wanted: str
    value: float
    is_met: bool


def targets(rows: list[Row], limits: list[Limit], fleet_share: float = 0.85) -> list[Target]:
    """Those targets whose parts were measured; `fleet_share` is what the fleet has to reach of embedded."""
    find = finder(rows)
    found = []

    def at_least(what: str, wanted: float, value: float | None) -> None:
        if value is not None:
            found.append(Target(what, f"≥ {wanted:,.2f}".removesuffix(".00"), value, value >= wanted))

    def at_most(what: str, wanted: float, value: float | None) -> None:
        if value is not None:
            found.append(Target(what, f"≤ {wanted:,.2f}".removesuffix(".00"), value, value <= wanted))

    rate = lambda *key: read(find(*key), lambda row: row.requests_per_second)
    p50 = lambda *key: read(find(*key), lambda row: row.p50)
    many = [limit for limit in limits if limit.threads > 1]
    alone = [limit for limit in limits if limit.threads == 1 and limit.batch == 1]
    ceiling = max((limit.images_per_second for limit in many), default=None)
    inference_ms = alone[0].us_per_image / 1e3 if alone else None
    at = REFERENCE_CONNECTIONS
    at_least("embedded / raw ONNX Runtime, unique, 64 connections", 0.85, ratio(rate("embedded", "unique", at), ceiling))
    for connections in (at, 256):
        fleet, embedded = rate("fleet", "unique", connections), rate("embedded", "unique", connections)
        at_least(f"fleet / embedded, unique, {connections} connections", fleet_share, ratio(fleet, embedded))
    at_least("fleet of 2 workers / of 1, unique, 64 connections", 1.8, ratio(rate("fleet", "unique", at), rate("fleet-of-one", "unique", at)))
    at_least("embedded / constant, repeated, 64 connections", 0.7, ratio(rate("embedded", "repeated", at), rate("constant", "repeated", at)))
    for system, limit in (("embedded", 0.3), ("fleet", 1.5)):
        alone_p50 = p50(system, "unique", 1)
        added = None if alone_p50 is None or inference_ms is None else alone_p50 - inference_ms
        at_most(f"{system}: p50 at one connection above the bare inference, ms", limit, added)
        at_most(f"{system}: p99 / p50 at 70 % of its peak, 64 connections", 5.0, read(find(system, "unique", at, True), lambda row: row.p99 / row.p50))
    at_least("fleet: accepted jobs per second, 256 connections", 10_000.0, rate("fleet", "jobs", 256))
    return found


def finder(rows: list[Row]) -> Callable[..., Row | None]:
    """A look-up of rows by system, kind, connections and whether a rate was given."""
    by_key = {(row.system, row.kind, row.connections, row.at_rate): row for row in rows}
    return lambda system, kind, connections, at_rate=False: by_key.get((system, kind, connections, at_rate))


def read(row: Row | None, value: Callable[[Row], float]) -> float | None:
    """A row's value, if there is a row."""
    return None if row is None else value(row)


def ratio(value: float | None, of: float | None) -> float | None:
    """A quotient, if both are known."""
    return None if value is None or not of else value / of
