"""Devices: the one place that names a mesh axis.

Points are sharded along one axis over all devices of all processes; parameters are replicated.
One device is a mesh of one, not a special case.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

POINTS = "points"
SHARDED = PartitionSpec(POINTS)
REPLICATED = PartitionSpec()
COLUMNS = PartitionSpec(None, POINTS)


def make_mesh(devices: int | None = None) -> Mesh:
    """A mesh over the first `devices` devices of the job; all of them by default.

    Raises:
        ValueError: fewer devices are there than were asked for, or a process would have none.
    """
    there = jax.devices()
    wanted = len(there) if devices is None else devices
    if jax.process_count() > 1 and wanted != len(there):
        raise ValueError(
            f"devices={wanted}: expected {len(there)}, all devices of all "
            f"{jax.process_count()} processes."
        )
    if not 1 <= wanted <= len(there):
        remedy = " XLA_FLAGS=--xla_force_host_platform_device_count=N makes N of a CPU."
        raise ValueError(
            f"devices={wanted}: expected 1 to {len(there)}, the devices of this process "
            f"({there[0].platform}).{remedy if there[0].platform == 'cpu' and wanted > 1 else ''}"
        )
    return jax.make_mesh((wanted,), (POINTS,), axis_types=(AxisType.Auto,), devices=there[:wanted])


def shard(mesh: Mesh, array: np.ndarray) -> Array:
    """Lay an array out over the devices along its first axis, which their number must divide.

    Every process passes the same whole array and keeps only its own rows.
    """
    sharding = NamedSharding(mesh, SHARDED)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def replicate(mesh: Mesh, tree):
    """Put a copy of every array of a tree on every device."""
    sharding = NamedSharding(mesh, REPLICATED)

    def put(leaf):
        value = np.asarray(leaf)
        return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])

    return jax.tree.map(put, tree)


def gather(values: Sequence[float]) -> np.ndarray:
    """The values of every process, shape (processes, len(values)): the same array on all of them.

    Every process has to call it, which is how they come to one decision from what only some of
    them see: a clock, a signal, a file.
    """
    local = np.asarray(values, np.float64)
    if jax.process_count() == 1:
        return local[None]
    return np.asarray(multihost_utils.process_allgather(local))


def whole(mesh: Mesh, tree):
    """Sharded arrays as arrays of this process, whole; every process has to call it."""
    return jax.tree.map(np.asarray, _gathering(mesh)(tree))


@cache
def _gathering(mesh: Mesh):
    return jax.jit(lambda tree: tree, out_shardings=NamedSharding(mesh, REPLICATED))


def pad(
    x: np.ndarray, sqrt_weight: np.ndarray, multiple: int, least: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Repeat the last point with weight zero until the number of rows is a multiple, and `least`.

    A point of weight zero adds nothing to any sum, so no formula knows of the padding.
    """
    extra = max(len(x), least) - len(x)
    extra += -(len(x) + extra) % multiple
    return (
        np.concatenate([x, np.repeat(x[-1:], extra, axis=0)]),
        np.concatenate([sqrt_weight, np.zeros(extra, sqrt_weight.dtype)]),
    )


def unpad(x: np.ndarray, sqrt_weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points without those of weight zero at their end: what `pad` has added."""
    n = int(np.flatnonzero(sqrt_weight)[-1]) + 1
    return x[:n], sqrt_weight[:n]
