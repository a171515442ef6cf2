"""Weights from a config: a factor of a term's mean square in the loss, and of nothing else."""

import jax
import pytest
from library import stage_of

from distgram.config.schema import check
from distgram.errors import ConfigError
from distgram.linalg.mesh import make_mesh


def tree(weight: float) -> dict:
    return {
        "problem": {"name": "laplace2d"},
        "model": {"hidden": [5]},
        "points": {"interior": {"count": 40}, "boundary": {"count": 20, "weight": weight}},
        "rule": {"name": "adaptive_ratio"},
    }


def term_losses(weight: float):
    run = stage_of(check(tree(weight)), make_mesh(1))
    points = run.points()
    return jax.jit(run.residual.term_losses)(run.model.theta0, points)


def test_a_weight_scales_its_own_term_only():
    plain, weighted = term_losses(1.0), term_losses(4.0)
    assert weighted[0] == plain[0]
    assert float(weighted[1]) == pytest.approx(4.0 * float(plain[1]), rel=1e-14)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), "heavy"])
def test_a_weight_is_a_positive_number(weight):
    with pytest.raises(ConfigError, match="points.boundary.weight"):
        check(tree(weight))
