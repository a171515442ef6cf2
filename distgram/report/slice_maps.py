"""Maps of a solution on planes through the centre of its domain, as a matplotlib Figure."""

from __future__ import annotations

from matplotlib.figure import Figure

from distgram.report.figures import Arrays
from distgram.report.maps import coordinates, panels


def slices(solution: Arrays) -> Figure:
    """u, and where it is known the reference and log10 |error|: a row a plane and an output."""
    pairs, nodes, at = (solution[f"slice_{key}"] for key in ("axes", "nodes", "at"))
    u, exact = solution["slice_u"], solution.get("slice_reference")
    d, m = len(at), u.shape[-1]
    labels = coordinates(solution, d)
    columns = 1 if exact is None else 3
    size = (5.2 if columns == 1 else 13.2, 3.9 * len(pairs) * m)
    fig = Figure(figsize=size, layout="constrained")
    rows = iter(fig.subplots(len(pairs) * m, columns, squeeze=False))
    for s, (i, j) in enumerate(pairs):
        others = [f"{labels[k]} = {at[k]:.3g}" for k in range(d) if k not in (i, j)]
        where = f" at {', '.join(others[:3])}{', ...' * (len(others) > 3)}" if others else ""
        for k in range(m):
            name = (f"$u_{{{k + 1}}}$" if m > 1 else "$u$") + where
            panels(
                list(next(rows)),
                (nodes[i], nodes[j]),
                u[s, ..., k].ravel(),
                None if exact is None else exact[s, ..., k].ravel(),
                [labels[i], labels[j]],
                name,
            )
    return fig
