"""The precision of all arithmetic: float64 and full matmul precision, set once and checked."""

from __future__ import annotations

import os
from pathlib import Path

import jax
import jax.numpy as jnp


def set_precision() -> str:
    """Set float64 and the highest matmul precision, and turn the compilation cache on.

    Returns: a line for the log: the precision, the devices and the number of processes.

    Raises:
        RuntimeError: arrays do not come out as float64.
    """
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_default_matmul_precision", "highest")
    made, values = jnp.ones(1), jax.config.values
    if made.dtype != jnp.float64 or values["jax_default_matmul_precision"] != "highest":
        raise RuntimeError(f"float64 could not be set: arrays come out as {made.dtype}.")
    if values["jax_compilation_cache_dir"] is None:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(home) / "distgram" / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    device = jax.devices()[0]
    return (
        f"float64, matmul precision highest, {jax.device_count()} x {device.device_kind} "
        f"({device.platform}), {jax.process_count()} process(es)"
    )
