"""Two TPU slices of two hosts each, rehearsed: CPU devices under a TPU's resources and labels.

Ray's own scheduling of TPU slices places the workers and starts jax.distributed; every process then
tells where it is and which points it has.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_runs import environment, metrics
from ray.cluster_utils import Cluster

# The hosts are forked off this process, where other tests may have started jax, and exec at once.
pytestmark = pytest.mark.filterwarnings(r"ignore:os\.fork\(\) was called:RuntimeWarning")

SLICES, HOSTS, CHIPS = ("slice-a", "slice-b"), 2, 4
POD_TYPE, TOPOLOGY = "v4-16", "2x2x2"  # eight chips of two cores each, four chips a host
WORKERS = len(SLICES) * HOSTS

# Loaded by every process of the run, once jax.distributed has started: it tells of the process.
PROBLEM = """
import json, os
from pathlib import Path
import jax
import numpy as np
from distgram.linalg.mesh import make_mesh, shard
from distgram.pde.registry import get

if jax.process_count() > 1:
    rows = shard(make_mesh(), np.arange(2.0 * jax.device_count())).addressable_shards
    told = {name: os.environ.get(name) for name in os.environ if name.startswith(("TPU_", "MEGA"))}
    told |= {"processes": jax.process_count(), "devices": jax.device_count()}
    told |= {"rows": sorted(float(x) for row in rows for x in np.asarray(row.data))}
    Path(FOLDER, f"rank-{jax.process_index()}.json").write_text(json.dumps(told))
problem = get("laplace2d")
"""
CONFIG = """
[problem]
file = "problem.py"
[model]
hidden = [12]
features = "normalize"
hard_constraint = true
[points]
interior = {count = 500}
[rule]
name = "adaptive_ratio"
excursion = 1.0
[run]
steps = 40
held_out = 64
"""


def host(name: str, worker: int) -> dict[str, Any]:
    """A host of a slice as GKE's webhook makes it, but with four CPU devices for its chips."""
    env = {"TPU_NAME": name, "TPU_WORKER_ID": str(worker), "TPU_TOPOLOGY": TOPOLOGY}
    env |= {"TPU_ACCELERATOR_TYPE": POD_TYPE, "JAX_PLATFORMS": "cpu", "OPENBLAS_NUM_THREADS": "1"}
    env |= {"XLA_FLAGS": f"--xla_force_host_platform_device_count={CHIPS}"}
    env |= {"PYTHONPATH": environment()["PYTHONPATH"]}
    labels = {"ray.io/tpu-slice-name": name, "ray.io/tpu-worker-id": str(worker)}
    labels |= {"ray.io/tpu-pod-type": POD_TYPE, "ray.io/tpu-topology": TOPOLOGY}
    resources = {"TPU": CHIPS, "accelerator_type:TPU-V4": 1, name: 1}
    resources |= {f"TPU-{POD_TYPE}-head": 1} if worker == 0 else {}
    return {"num_cpus": 2, "resources": resources, "labels": labels, "env_vars": env}


@pytest.fixture(scope="module")
def slices():
    """The address of a cluster of a head and four TPU hosts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        try:
            for name in SLICES:
                for worker in range(HOSTS):
                    cluster.add_node(**host(name, worker))
            yield cluster.address
        finally:
            cluster.shutdown()


def solve(folder: Path, address: str, *options: object) -> subprocess.CompletedProcess[str]:
    """`distgram solve` on the slices."""
    (folder / "problem.py").write_text(PROBLEM.replace("FOLDER", repr(str(folder))))
    (folder / "config.toml").write_text(CONFIG)
    command = [
        sys.executable,
        "-m",
        "distgram_launch.cli",
        "solve",
        folder / "config.toml",
        "--out",
    ]
    command += [folder / "run", "--ray", "--address", address, "--tpu", "v4", *options, "--rows"]
    return subprocess.run(
        [str(c) for c in command],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=400,  # no run hangs; it takes about a minute
    )


@pytest.mark.cluster
def test_a_run_on_two_slices(slices, tmp_path):
    ended = solve(tmp_path, slices, "--topology", TOPOLOGY, "--workers", WORKERS)
    assert ended.returncode == 0, ended.stderr
    told = [json.loads((tmp_path / f"rank-{k}.json").read_text()) for k in range(WORKERS)]
    devices = WORKERS * CHIPS
    assert all(t["processes"] == WORKERS and t["devices"] == devices for t in told)

    # Every host has one rank, and ranks go slice by slice: neighbours on the mesh share a slice.
    # Within a slice Ray leaves their order open; libtpu numbers the hosts by TPU_WORKER_ID itself.
    places = [(t["TPU_NAME"], int(t["TPU_WORKER_ID"])) for t in told]
    assert sorted(places) == [(name, worker) for name in SLICES for worker in range(HOSTS)]
    assert [name for name, _ in places] == [name for name in SLICES for _ in range(HOSTS)]
    assert [int(t["MEGASCALE_SLICE_ID"]) for t in told] == [SLICES.index(p[0]) for p in places]
    assert {t["MEGASCALE_NUM_SLICES"] for t in told} == {str(len(SLICES))}
    assert len({t["MEGASCALE_COORDINATOR_ADDRESS"] for t in told}) == 1

    # The points lie over all chips in the order of the ranks: each host has its own, all of them.
    rows = 2 * CHIPS
    assert [t["rows"] for t in told] == [[*range(k * rows, (k + 1) * rows)] for k in range(WORKERS)]

    result = json.loads(ended.stdout.splitlines()[-1].removeprefix("@result "))
    assert result["devices"] == devices and result["reason"] == "step budget"
    # One process comes to 5e-6; on another mesh the trajectories part, and the plateau is as low.
    assert result["l2_error"] < 1e-4
    assert metrics(tmp_path / "run")[0]["l2_error"] > 0.1


@pytest.mark.cluster
def test_half_a_slice_is_refused(slices, tmp_path):
    ended = solve(tmp_path, slices, "--topology", TOPOLOGY, "--workers", WORKERS - 1)
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    assert f"{WORKERS - 1}" in ended.stderr and TOPOLOGY in ended.stderr
    assert not (tmp_path / "run").exists()
