"""The weight of a term's points: a factor of its mean square in the loss, and of nothing else."""

import jax
import pytest
from stages import stage

from distgram.config.schema import check
from distgram.errors import ConfigError, ProblemError
from distgram.net.mlp import MLP
from distgram.points.draw import Draw


def term_losses(weight: float):
    drawn = {"interior": 40, "boundary": Draw(20, weight=weight)}
    run = stage(network=MLP([5]), points=drawn)
    rows = run.residual.rows
    return jax.jit(lambda t, p: rows(t, p).term_losses())(run.model.theta0, run.points())


def test_a_weight_scales_its_own_term_only():
    plain, weighted = term_losses(1.0), term_losses(4.0)
    assert weighted[0] == plain[0]
    assert float(weighted[1]) == pytest.approx(4.0 * float(plain[1]), rel=1e-14)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_is_a_positive_number(weight):
    with pytest.raises(ProblemError, match=r"^Draw\.weight = "):
        Draw(20, weight=weight)


@pytest.mark.parametrize("weight", [float("nan"), "heavy"])
def test_a_weight_in_a_config_is_named_by_its_key(weight):
    points = {"interior": {"count": 40}, "boundary": {"count": 20, "weight": weight}}
    with pytest.raises(ConfigError, match=r"^points\.boundary\.weight = "):
        check({"problem": {"name": "laplace2d"}, "points": points})
