"""The tests' numerical environment, set before jax is imported for the first time.

Eight forced host devices, so that sharded code can be tested on meshes of 1, 2 and 8; float64 and
full matmul precision, as in a run; one BLAS thread, since all devices call LAPACK at once, and
its threads spin while they wait.
"""

import os
import sys
import tempfile

import pytest

_LATE = [name for name in ("jax", "jaxlib", "scipy") if name in sys.modules]
if _LATE:
    raise RuntimeError(f"tests/conftest.py must run before {_LATE} are imported; a plugin did it.")

os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_ENABLE_X64"] = "1"
os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
# The notes of whose programs run folders hold are the user's.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="distgram-tests-")
os.environ["XLA_FLAGS"] = " ".join(
    [
        *(f for f in os.environ.get("XLA_FLAGS", "").split() if "device_count" not in f),
        "--xla_force_host_platform_device_count=8",
    ]
)

# After the environment: this imports numpy.
from jaxtyping import install_import_hook  # noqa: E402

install_import_hook(["distgram.geometry", "distgram.pde"], "shapes.check")


@pytest.fixture(scope="session")
def bucket():
    """An empty bucket of Google Cloud Storage on loopback, for all that this process starts."""
    from gcs_server import serving

    with pytest.MonkeyPatch.context() as patch, serving() as (bucket, environment):
        for name, value in environment.items():
            patch.setenv(name, value)
        yield bucket


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A place for configs and runs, whose runs draw no figures."""
    from cli_runs import Folder, no_figures

    no_figures(monkeypatch)
    return Folder(tmp_path)


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    """A Folder with a run of 6 steps, its checkpoints at 2, 4 and 6. Not to be changed."""
    from cli_runs import Folder, no_figures

    folder = Folder(tmp_path_factory.mktemp("solved"))
    with pytest.MonkeyPatch.context() as patch:
        no_figures(patch)
        assert folder.solve().code == 0
    return folder
