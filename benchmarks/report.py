"""What a run of `benchmarks.aggregation` measured, as lines, table, plot, and claims that hold or do not.

Table and plot are made anew from aggregation.jsonl with `python -m benchmarks.report`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.sizes import Size
from crypto.parameters import CKKS_OPENING_NOISE

Record: TypeAlias = dict[str, Any]

RESULTS = Path(__file__).parent / "results"
# The noise that an opener adds to the sum, by the protocol: six deviations of it, over weights that add up to four.
CKKS_ERROR = 6 * CKKS_OPENING_NOISE / 4
AT = "densenet121"  # the size that the claims are about
BULK = ("lwe-ckks", "lwe-shamir")
TITLES = {
    "plaintext": "plaintext fp32",
    "lwe-ckks": "ours, lwe-ckks",
    "lwe-shamir": "ours, lwe-shamir",
    "ckks": "ours, ckks",
    "flower": "Flower SecAgg+",
    "nvflare": "NVFLARE HE",
}
COLORS = dict(zip(TITLES, ("#777777", "#0b6e4f", "#40b58c", "#7a9e2f", "#d98324", "#b3202c"), strict=True))
# figure: heading, factor to its unit, format
COLUMNS = {
    "upload_bytes": ("upload, MB", 1e-6, ".4g"),
    "client_seconds": ("client, s", 1, ".3g"),
    "server_seconds": ("server, s a contribution", 1, ".2g"),
    "sha256_seconds": ("SHA-256 of it, s", 1, ".2g"),
    "open_seconds": ("opening, s a round", 1, ".2g"),
    "server_memory_bytes": ("server memory, MB", 1e-6, ".4g"),
    "max_error": ("max error of the mean", 1, ".1e"),
}
PANELS = ("upload_bytes", "client_seconds", "server_seconds", "server_memory_bytes")


@dataclass(frozen=True)
class Claim:
    """One sentence of what is promised. `holds` is None where it was not measured."""

    words: str
    found: str
    holds: bool | None

    def __str__(self) -> str:
        return f"{_verdict(self)}  {self.words}: {self.found}"


def describe(size: Size) -> Record:
    values = sum(math.prod(shape) for _, shape in size.shapes)
    return {"title": size.title, "parameters": size.parameters, "tensors": len(size.shapes), "values": values}


def value(records: list[Record], system: str, size: str, sites: int, figure: str) -> float | None:
    wanted = {"system": system, "size": size, "sites": sites, "figure": figure}
    return next((float(record["value"]) for record in records if wanted.items() <= record.items()), None)


def write(folder: Path, header: Record, records: list[Record]) -> list[Claim]:
    """All results into a folder; the claims with what was found."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(line) + "\n" for line in (header, *records)]
    (folder / "aggregation.jsonl").write_text("".join(lines))
    claims = list(check(header, records))
    (folder / "aggregation.md").write_text(table(header, records, claims))
    plot(folder / "aggregation.png", header, records)
    return claims


# --- claims


def check(header: Record, records: list[Record]) -> Iterator[Claim]:
    for sites in (4, 16):
        for scheme in BULK:
            yield from _beside_peers(header, records, scheme, sites)
    for scheme in (*BULK, "ckks"):
        few, many = (value(records, scheme, AT, sites, "server_memory_bytes") for sites in (4, 64))
        yield _claim(
            f"{scheme}: server memory with 64 sites within 10 % of that with 4",
            many and few and many / few,
            lambda ratio: abs(ratio - 1) <= 0.1,
        )
    for scheme, limit in (*((name, 1e-6) for name in BULK), ("ckks", CKKS_ERROR)):
        yield _claim(
            f"{scheme}, 16 sites, mean weight 0.25: error of the mean below {limit:.2g} of the bound",
            value(records, scheme, AT, 16, "max_error"),
            lambda error, limit=limit: error < limit,  # type: ignore[misc]
            "{:.2g}",
        )


def _beside_peers(header: Record, records: list[Record], scheme: str, sites: int) -> Iterator[Claim]:
    def ratio(figure: str, over: str, under: str) -> float | None:
        above, below = (value(records, system, AT, sites, figure) for system in (over, under))
        return above / below if above is not None and below else None

    upload = value(records, scheme, AT, sites, "upload_bytes")
    plain = 4 * header["sizes"].get(AT, {"values": 0})["values"]
    who = f"{scheme}, {sites} sites"
    yield _claim(f"{who}: upload at most 1.02 x fp32", upload and upload / plain, lambda x: x <= 1.02, "{:.4f}")
    yield _claim(
        f"{who}: upload at least 25 times smaller than NVFLARE's",
        ratio("upload_bytes", "nvflare", scheme),
        lambda x: x >= 25,
    )
    yield _claim(
        f"{who}: upload at most 0.55 of Flower's", ratio("upload_bytes", scheme, "flower"), lambda x: x <= 0.55
    )
    yield _claim(
        f"{who}: client seconds at least 8 times less than NVFLARE's",
        ratio("client_seconds", "nvflare", scheme),
        lambda x: x >= 8,
    )
    yield _claim(
        f"{who}: client seconds less than Flower's", ratio("client_seconds", scheme, "flower"), lambda x: x < 1
    )
    yield _claim(
        f"{who}: server seconds at least 100 times less than NVFLARE's",
        ratio("server_seconds", "nvflare", scheme),
        lambda x: x >= 100,
    )
    yield _claim(
        f"{who}: server seconds at most 0.3 of Flower's", ratio("server_seconds", scheme, "flower"), lambda x: x <= 0.3
    )


def _claim(words: str, found: float | None, holds: Callable[[float], bool], form: str = "{:.3g} times") -> Claim:
    if found is None:
        return Claim(words, "not measured", None)
    return Claim(words, form.format(found), holds(found))


def _verdict(claim: Claim) -> str:
    return {True: "holds", False: "FAILS", None: "-"}[claim.holds]


# --- table


def table(header: Record, records: list[Record], claims: list[Claim]) -> str:
    machine = header["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        "# Secure aggregation beside its peers",
        "",
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_bytes'] / 1e9:.1f} GB, "
        f"{machine['date']}; Python {machine['python']}; {versions}. What is measured, and how: "
        "[docs/benchmarks.md](../../docs/benchmarks.md).",
        "",
        f"Times are medians of {machine['repeats']} runs after one to warm up; * of fewer, where runs take long.",
    ]
    for size, about in header["sizes"].items():
        lines += ["", f"## {about['title']}", "", _about(about), "", *_rows(header, records, size)]
    lines += [
        "",
        "![the same as a plot](aggregation.png)",
        "",
        "## Claims",
        "",
        "| | claim | measured |",
        "|---|---|---|",
    ]
    lines += [f"| {_verdict(claim)} | {claim.words} | {claim.found} |" for claim in claims]
    return "\n".join(lines) + "\n"


def _about(about: Record) -> str:
    return (
        f"{about['parameters']:,} parameters; with float buffers {about['values']:,} values in {about['tensors']} "
        f"tensors, {4e-6 * about['values']:.4g} MB in fp32."
    )


def _rows(header: Record, records: list[Record], size: str) -> Iterator[str]:
    headings = ["system", "sites", *(heading for heading, _, _ in COLUMNS.values())]
    headings.insert(3, "x fp32")
    yield f"| {' | '.join(headings)} |"
    yield f"|{'---|' * len(headings)}"
    notes = []
    for system, sites in dict.fromkeys(
        (record["system"], record["sites"]) for record in records if record["size"] == size
    ):
        of_cell = [r for r in records if (r["system"], r["size"], r["sites"]) == (system, size, sites)]
        row = [_shown(of_cell, figure, header["machine"]["repeats"]) for figure in COLUMNS]
        upload = value(of_cell, system, size, sites, "upload_bytes")
        row.insert(1, f"{upload / (4 * header['sizes'][size]['values']):.3f}" if upload else "")
        yield f"| {' | '.join([TITLES[system], str(sites), *row])} |"
        notes += [f"- {TITLES[system]}, {sites} sites: {r['left_out']}." for r in of_cell if "left_out" in r]
    if notes:
        yield from ("", "Left out:", "", *notes)


def _shown(of_cell: list[Record], figure: str, repeats: int) -> str:
    found = next((record for record in of_cell if record.get("figure") == figure), None)
    if found is None:
        return ""
    _, factor, form = COLUMNS[figure]
    fewer = "*" if figure.endswith("_seconds") and len(found.get("runs", ())) in range(1, repeats) else ""
    return f"{found['value'] * factor:{form}}{fewer}"


# --- plot


def plot(path: Path, header: Record, records: list[Record]) -> None:
    """Four figures against the number of values: lines for 4 sites, rings for 16."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    for axes, name in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        heading, factor, _ = COLUMNS[name]
        for system, title in TITLES.items():
            few, many = (_points(header, records, system, sites, name, factor) for sites in (4, 16))
            axes.plot(*few, "o-", color=COLORS[system], label=title, markersize=4, linewidth=1.5)
            axes.plot(*many, "o", color=COLORS[system], markersize=8, fillstyle="none")
        axes.set(xscale="log", yscale="log", title=heading, xlabel="values of an update")
        axes.grid(alpha=0.3)
    names = figure.axes[0].get_legend_handles_labels()
    figure.legend(*names, loc="outside lower center", ncols=6, title="lines: 4 sites; rings: 16")
    figure.savefig(path, dpi=130)


def _points(
    header: Record, records: list[Record], system: str, sites: int, figure: str, factor: float
) -> tuple[list[int], list[float]]:
    found = {about["values"]: value(records, system, size, sites, figure) for size, about in header["sizes"].items()}
    points = sorted((values, factor * y) for values, y in found.items() if y is not None)
    return [x for x, _ in points], [y for _, y in points]


def main() -> None:
    header, *records = map(json.loads, (RESULTS / "aggregation.jsonl").read_text().splitlines())
    print("\n".join(map(str, write(RESULTS, header, records))))


if __name__ == "__main__":
    main()
