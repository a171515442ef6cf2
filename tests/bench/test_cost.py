"""The modelled cost of a step against what is compiled."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import jax
import jax.numpy as jnp
import matrices as M
import numpy as np
import pytest
from cli_runs import TINY
from cost import BANDWIDTH, LATENCY, Part, Step, total
from rates import Rates, Work, measure, qr_flops, trials

from distgram.linalg.dual import Dual
from distgram.linalg.gram import Gram
from distgram.linalg.memory import Shape
from distgram.linalg.mesh import make_mesh
from distgram.linalg.plan import Plan
from distgram.linalg.randomized import Randomized
from distgram.linalg.tsqr import TSQR
from distgram.rules.adaptive_ratio import AdaptiveRatio
from distgram.rules.anagram import ANaGRAM
from distgram.rules.line_search import Backtracking, GridSearch

CONFIGS = Path(__file__).parents[2] / "configs"
RATES = Rates(Work(100.0, 1e-6), Work(30.0, 3e-7), 1e9, 2e9, 1e-9, 1e-9)
FACTORIZATIONS = {
    "tsqr": (TSQR(), 64, 6),
    "dual": (Dual(), 24, 40),
    "gram": (Gram(), 64, 10),
    "randomized": (Randomized(widths=(4,)), 64, 10),
}


def planned(name: str, rows: int, p: int, devices: int, blocks: int = 1) -> Step:
    widths = (4,) if name == "randomized" else ()
    return Step(Plan(Shape(rows, p, devices), name, "named", blocks, 0, widths), RATES, 13)


def parts(step: Step) -> dict[str, Part]:
    return {part.name: part for part in step.parts(4 if step.plan.widths else None)}


def collectives(name: str, devices: int) -> dict[str, list[int]]:
    """Operation -> float64 numbers of each of its calls in the compiled factorization."""
    factorization, rows, p = FACTORIZATIONS[name]
    a = np.random.default_rng(0).standard_normal((rows, p))
    residual, points = M.linear_system(a, a[:, 0], make_mesh(devices))
    theta = jnp.zeros(p)
    state = factorization.init(residual.rows(theta, points))

    def factorize(theta, points, state):
        spectrum, _ = factorization(residual.rows(theta, points), M.everything, state)
        return spectrum.s, spectrum.direction(spectrum.s)

    text = jax.jit(factorize).lower(theta, points, state).compile().as_text() or ""
    found: dict[str, list[int]] = {}
    for line in text.splitlines():
        if called := re.search(r"= (.*?) (collective-permute|all-to-all|all-reduce)\(", line):
            shapes = re.findall(r"f64\[([\d,]*)\]", called[1])
            sizes = [int(np.prod([int(n) for n in s.split(",") if n])) for s in shapes]
            found.setdefault(called[2], []).append(sum(sizes))
    return found


@pytest.mark.parametrize(
    "name, devices",
    [*product(("tsqr", "dual"), (1, 2, 3, 5, 8)), ("randomized", 3), ("randomized", 8)],
)
def test_the_butterfly_sends_what_is_compiled(name, devices):
    _, rows, p = FACTORIZATIONS[name]
    rows = -(-rows // devices) * devices  # padded
    butterfly = parts(planned(name, rows, p, devices))["butterfly"]
    sent = collectives(name, devices).get("collective-permute", [])
    assert butterfly.messages == len(sent)
    assert butterfly.bytes == 8 * sum(sent)


@pytest.mark.parametrize("devices", [2, 3, 8])
def test_the_dual_exchanges_its_share_of_the_jacobian(devices):
    _, rows, p = FACTORIZATIONS["dual"]
    (held,) = collectives("dual", devices)["all-to-all"]
    rows, padded = -(-rows // devices) * devices, -(-p // devices) * devices
    assert held == rows // devices * padded  # of which one in `devices` stays
    exchanged = parts(planned("dual", rows, padded, devices))["rows to columns"]
    column = 8 * rows * (devices - 1) / devices  # the residuals are gathered as well
    assert exchanged.bytes == pytest.approx(8 * held * (devices - 1) / devices + column)


def test_the_normal_equations_sum_one_square_over_the_devices():
    _, rows, p = FACTORIZATIONS["gram"]
    assert max(collectives("gram", 8)["all-reduce"]) == p * (p + 1)
    # halving and doubling: a device sends each number twice, but for its own share
    assert parts(planned("gram", rows, p, 8))["JᵀJ"].bytes == 2 * 8 * p * (p + 1) * 7 / 8


def test_flops_of_a_qr_are_those_of_its_reflections():
    """Column j: a reflection of m - j entries, applied to n - j columns, four flops an entry."""
    for m, n in ((4000, 500), (600, 600)):
        counted = sum(4 * (m - j) * (n - j) for j in range(n))
        assert qr_flops(m, n) == pytest.approx(counted, rel=3 / n)  # lower orders in n
    assert qr_flops(10, 300) == qr_flops(300, 300)  # rows of zeros are factored as well


def test_folds_cost_little_more_than_one_qr():
    q = 101
    step = planned("tsqr", 80 * 8 * q, q - 1, 1, blocks=80)
    folds = parts(step)["QR folds"].flops / qr_flops(80 * 8 * q, q)
    assert 1.0 < folds < 1.0 + 1 / 8 + 1e-2  # q rows more for every 8 q


@pytest.mark.parametrize("name", ["tsqr", "dual", "gram", "randomized"])
def test_one_device_sends_nothing_and_many_share_the_rows(name):
    alone, many = (parts(planned(name, 6400, 700, d)) for d in (1, 64))
    assert all(part.bytes == 0 and part.messages == 0 for part in alone.values())
    assert sum(part.bytes for part in many.values()) > 0
    rows = next(n for n in alone if n.startswith("Jacobian rows"))
    for shared in (rows, "trial losses"):
        assert alone[shared].flops == pytest.approx(64 * many[shared].flops)
        assert alone[shared].computing == pytest.approx(64 * many[shared].computing)


def test_the_time_of_a_step_is_computing_and_sending():
    found = parts(planned("tsqr", 6400, 700, 64))
    whole = total(list(found.values()))
    computing = 100 * (1e-6 + 13 * 3e-7) + 700**3 * 1e-9
    computing += (qr_flops(100, 701) + 6 * qr_flops(1402, 701)) / 1e9
    numbers = 6 * 701**2 + 2 * 13 * 63 / 64  # six triangles, and the sum of 13 losses
    assert whole.messages == 6 + 12
    assert whole.seconds == pytest.approx(computing + 18 * LATENCY + 8 * numbers / BANDWIDTH)


def test_trials_are_what_the_rule_asks_for():
    assert trials(AdaptiveRatio(trials=7), 5) == 1  # one at least; the rows give the loss
    assert trials(ANaGRAM(cutoff=1e-6, line_search=GridSearch(count=9)), 5) == 10
    # the loss, and the first step at least; in the loop one more is traced
    assert 2 <= trials(ANaGRAM(cutoff=1e-6, line_search=Backtracking(count=9)), 5) <= 10


@pytest.mark.slow
def test_rates_are_those_of_the_problem(folder):
    from distgram_launch.local import prepare

    from distgram.config.schema import load

    found = []
    for hidden in (20, 80):
        text = TINY.replace("[8]", f"[{hidden}]").replace("100", "400")
        run = prepare(load(folder.write("tiny.toml", text)), 1)
        found.append(measure(run, 13))
        rates, p = found[-1], run.model.p
        # a residual uses every parameter in a product and a sum at least, its gradient twice
        assert 2 * p < rates.loss.flops < rates.row.flops
        assert all(np.isfinite(r) and r > 0 for r in (*rates.row, *rates.loss, *rates[2:]))
    # one hidden layer: everything is linear in its width, but for what a point costs without it
    assert found[1].row.flops == pytest.approx(4 * found[0].row.flops, rel=0.1)
