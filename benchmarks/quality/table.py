"""The measurements as a table, and whether few evaluations are as good as many."""

from cells import REFERENCE, Row

BASELINE = ("heun", 63)
"""What few evaluations are to come up to."""

_FEW = 12  # evaluations
_DISTANCE, _POINT = 1.02, 0.01  # at most 2% of the Fréchet distance and 1 point of the accuracy away


def markdown(rows: list[Row], real: Row) -> str:
    """A table in Markdown; the last row is what real renderings get."""
    head = ("solver", "evaluations", "animal", "coat", "motion", "all three", "Fréchet distance", "difference", "ms")
    lines = [head, ("---",) * len(head)]
    lines += [
        (
            row["name"],
            str(row["evaluations"]),
            *_percents(row),
            f"{row['frechet']:.1f}",
            f"{row['difference']:.2f}",
            f"{1e3 * row['seconds']:.0f}",
        )
        for row in rows
    ]
    lines.append(("real renderings", "", *_percents(real), f"{real['frechet']:.1f}", "", ""))
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def verdict(rows: list[Row]) -> str:
    """Which cells of few evaluations come up to the baseline, the one nearest to the reference first."""
    baseline = next((row for row in rows if (row["name"], row["evaluations"]) == BASELINE), None)
    if baseline is None:
        return f"{BASELINE[0]} with {BASELINE[1]} evaluations was not measured: there is nothing to compare with"
    good = [
        row
        for row in rows
        if row["evaluations"] <= _FEW
        and row["frechet"] <= _DISTANCE * baseline["frechet"]
        and row["all"] >= baseline["all"] - _POINT
        and row["name"] != REFERENCE
    ]
    good.sort(key=lambda row: row["difference"])
    names = ", ".join(f"{row['name']} {row['evaluations']}" for row in good) or "none"
    return f"at most {_FEW} evaluations and as good as {BASELINE[0]} with {BASELINE[1]}: {names}"


def _percents(row: Row) -> list[str]:
    return [f"{100 * row[name]:.1f} %" for name in ("animal", "coat", "motion", "all")]
