"""The figures as people read them: a table, ratios beside their targets, and with PLOT=1 a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from tests.bench.drain import Drain

A, B, C = "service", "baseline", "limit"
MIB = 2**20


def ratios(drains: Sequence[Drain]) -> dict[str, float | None]:
    """What the issue sets targets for; each of the medians over the rounds."""

    def cpu(drain: Drain) -> float:
        return drain.cpu_seconds_per_million

    def cold(drain: Drain) -> float:
        return drain.records_per_second

    def warm(drain: Drain) -> float | None:
        return drain.warm_records_per_second

    return {
        "records/s, service : baseline": _ratio(drains, cold, A, B),
        "records/s warm, service : baseline": _ratio(drains, warm, A, B),
        "CPU-seconds a million, baseline : service": _ratio(drains, cpu, B, A),
        "records/s, service : limit": _ratio(drains, cold, A, C),
    }


TARGETS = {
    "records/s, service : baseline": (1.8, 4),
    "records/s warm, service : baseline": (2.2, 5),
    "CPU-seconds a million, baseline : service": (2, 5),
    "records/s, service : limit": (0.2, 0.5),
}
"""What each must be, and what it should be."""


def print_drains(drains: Sequence[Drain]) -> None:
    """A row a drain, then the ratios."""
    table = Table(box=SIMPLE)
    for column in (
        "", "seconds", "records/s", "warm", "CPU s / million", "peak MiB", "written MiB", "files", "start s",
    ):  # fmt: skip
        table.add_column(column, justify="right" if column else "left")
    for drain in drains:
        warm = drain.warm_records_per_second
        table.add_row(
            drain.contender,
            f"{drain.seconds:.1f}",
            f"{drain.records_per_second:,.0f}",
            f"{warm:,.0f}" if warm else "-",
            f"{drain.cpu_seconds_per_million:.1f}",
            f"{drain.peak_memory_bytes / MIB:,.0f}",
            f"{drain.output_bytes / MIB:,.0f}",
            str(drain.files),
            f"{drain.start_seconds:.1f}",
        )
    Console(width=110).print(table)
    for name, ratio in ratios(drains).items():
        must, aim = TARGETS[name]
        print(f"  {name:45} {ratio or float('nan'):6.2f}   must {must}, aim {aim}")


def as_json(drains: Sequence[Drain]) -> dict[str, object]:
    """The same for programs."""
    return {"ratios": ratios(drains), "runs": [asdict(drain) for drain in drains]}


def plot(drains: Sequence[Drain], path: Path) -> None:
    """Three panels, a group of bars a contender: the median of its rounds."""
    import matplotlib as mpl  # noqa: PLC0415 - half a second, and only where a plot is wanted

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    names = list(dict.fromkeys(drain.contender for drain in drains))
    figure, (speed, cpu, memory) = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
    places = range(len(names))
    cold = [_median(drains, lambda d: d.records_per_second, name) or 0 for name in names]
    warm = [_median(drains, lambda d: d.warm_records_per_second, name) or 0 for name in names]
    for shift, label, values in ((-0.2, "whole drain", cold), (0.2, "warm", warm)):
        bars = speed.bar([place + shift for place in places], values, 0.4, label=label)
        speed.bar_label(bars, fmt="{:,.0f}", fontsize=8)
    speed.set_xticks(list(places), names)
    speed.set_title("records a second")
    speed.legend()
    for panel, title, figures in (
        (
            cpu,
            "CPU-seconds a million records",
            [_median(drains, lambda d: d.cpu_seconds_per_million, n) for n in names],
        ),
        (memory, "peak memory, MiB", [_median(drains, lambda d: d.peak_memory_bytes / MIB, n) for n in names]),
    ):
        panel.bar_label(panel.bar(names, [figure or 0 for figure in figures]), fmt="{:,.0f}")
        panel.set_title(title)
    figure.savefig(path, dpi=120)


Figure = Callable[[Drain], float | None]


def _median(drains: Iterable[Drain], figure: Figure, contender: str) -> float | None:
    values = [value for drain in drains if drain.contender == contender and (value := figure(drain)) is not None]
    return median(values) if values else None


def _ratio(drains: Sequence[Drain], figure: Figure, above: str, below: str) -> float | None:
    a, b = _median(drains, figure, above), _median(drains, figure, below)
    return round(a / b, 3) if a and b else None
