"""The step of a run as jax traces it: what a rule or a baseline of a user's own gets wrong is said
in one sentence, before anything is compiled."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.stages import Traced

from distgram.errors import RuleError
from distgram.rules.baselines.baseline import Baseline
from distgram.rules.rule import Method
from distgram.run.checks import error_in_words

# What jax raises where Python needs the value of an array that has none yet.
NO_VALUE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


def called(method: Method) -> str:
    """What an error calls a method: rule 'anagram', baseline 'adam'."""
    return f"{'baseline' if isinstance(method, Baseline) else 'rule'} {method.name!r}"


def check_state(method: Method, state: Any) -> Any:
    """The state that a method has before the first step, if all its leaves can be saved.

    Raises:
        RuleError: a leaf that is neither a number nor an array of numbers: the leaf and its type.
    """
    for path, leaf in jax.tree.leaves_with_path(state):
        kind = getattr(leaf, "dtype", type(leaf))
        if not (jnp.issubdtype(kind, jnp.number) or jnp.issubdtype(kind, jnp.bool_)):
            raise RuleError(
                f"{called(method)}: state{jax.tree_util.keystr(path)} before the first step is a "
                f"{type(leaf).__name__} of type {kind}: expected numbers and arrays of numbers, as "
                "by jnp.asarray(x, jnp.float64); of a random key jax.random.key_data."
            )
    return state


def trace(method: Method, step: Any, *arguments: Any) -> Traced:
    """Trace a jitted step  (residual system, θ, state, points) -> (θ, state, StepInfo, summary).

    Args:
        method: whose step it is. step: what `jax.jit` gives. arguments: of the first step.

    Raises:
        RuleError: a Python choice by the value of a traced array; θ or a leaf of the state whose
        structure, shape or type the step changes; a field of StepInfo that is no scalar.
    """
    try:
        traced = step.trace(*arguments)
    except NO_VALUE as error:
        raise RuleError(
            f"{called(method)}: the step cannot be traced: {error_in_words(error)}"
        ) from error
    _, theta, state, _ = arguments
    theta_after, state_after, info, _ = traced.out_info
    _check_same(method, "theta", theta, theta_after)
    if method.uses_spectrum:  # beside the rule's state is that of the factorization
        _check_same(method, "state", state[0], state_after[0])
    else:
        _check_same(method, "state", state, state_after)
    for name, value in info._asdict().items():
        if value.shape != ():
            raise RuleError(
                f"{called(method)}: StepInfo.{name} of the step has shape {value.shape}: expected "
                "one number, of shape ()."
            )
    return traced


def _check_same(method: Method, name: str, before: Any, after: Any) -> None:
    """Check that a step gives what it got: the same structure, shapes and types."""
    if jax.tree.structure(before) != jax.tree.structure(after):
        raise RuleError(
            f"{called(method)}: the step gets {name} as {jax.tree.structure(before)} and returns "
            f"{jax.tree.structure(after)}: expected the same structure, which `init` decides."
        )
    leaves = jax.tree.leaves_with_path(before)
    for (path, old), new in zip(leaves, jax.tree.leaves(after), strict=True):
        types = [f"{x.dtype} of shape {x.shape}" for x in (old, new)]
        if types[0] != types[1]:
            wide = jnp.promote_types(old.dtype, new.dtype)
            remedy = "let init and step give one shape"
            if old.dtype != new.dtype:
                remedy = f"write jnp.asarray(x, jnp.{wide}) in init and in step"
            raise RuleError(
                f"{called(method)}: the step gets {name}{jax.tree_util.keystr(path)} as {types[0]} "
                f"and returns {types[1]}: expected the same type and shape: {remedy}."
            )
