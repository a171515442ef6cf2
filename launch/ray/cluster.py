"""What a run asks of a Ray cluster, and whether the cluster has it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError
from ray.train import ScalingConfig

from distgram.errors import ClusterError

REACH_S = 10.0  # for a connection to be made
GIVEN_S = 40.0  # for hosts to join, before a request counts as one that cannot be met
SETTINGS = {
    # Of a cluster started here: Ray's own 15 lets any other work starve them till they seem lost.
    "RAY_worker_niceness": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # it doubles what workers print
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "120",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "50",
}

TOPOLOGY = "ray.io/tpu-topology"  # Ray's label of a host of a TPU slice


class Host(NamedTuple):
    """A host of a cluster: its resources in all, and its labels."""

    resources: Mapping[str, float]
    labels: Mapping[str, str]

    def words(self) -> str:
        """As in '(CPU: 8, TPU: 4, accelerator_type:TPU-V6E: 1, topology 4x4)'."""
        topology = self.labels.get(TOPOLOGY)
        return f"({_words(self.resources)}{f', topology {topology}' if topology else ''})"


@dataclass(frozen=True)
class Request:
    """Workers, one per host, and what each of them has.

    Args:
        least, most: number of workers; a run with fewer than `most` takes what there is.
        devices: CPU devices per worker, or those expected of an accelerator; None: what it has.
        gpus: GPUs a worker. tpu, topology: the generation (v6e) and the shape of a slice (4x4).
        address: of the cluster to join; None: RAY_ADDRESS, or a cluster of this machine's own.
        heartbeat, watchdog: seconds after which a silent worker, or a stuck step, counts as lost.
        env_file: a file of every host, see `variables`.
    """

    least: int = 1
    most: int = 1
    devices: int | None = None
    gpus: int = 0
    tpu: str | None = None
    topology: str | None = None
    address: str | None = None
    heartbeat: int = 30
    watchdog: float = 120.0
    max_failures: int = 5
    max_preemptions: int = 100
    env_file: str | None = None

    @property
    def accelerator(self) -> str | None:
        """Ray's name of the TPU generation."""
        return f"TPU-{self.tpu.upper()}" if self.tpu else None

    @property
    def expected(self) -> int | None:
        """Devices that each worker is to see; None: what a TPU host has."""
        return self.gpus or self.devices or (None if self.tpu else 1)

    def resources(self) -> dict[str, float]:
        """What one worker takes of its host."""
        return {"CPU": 1, "GPU": self.gpus} if self.gpus else {"CPU": 1}

    def places(self, hosts: Iterable[Host]) -> int:
        """The number of workers that these hosts could hold, were they free."""
        if not self.tpu:
            need = self.resources()
            return sum(min(int(h.resources.get(k, 0) / v) for k, v in need.items()) for h in hosts)
        kind = f"accelerator_type:{self.accelerator}"
        return sum(
            h.resources.get("TPU", 0) >= 1
            and h.resources.get(kind, 0) > 0
            and h.labels.get(TOPOLOGY, self.topology) == self.topology
            for h in hosts
        )

    def refusal(self, cluster: str, hosts: Sequence[Host]) -> str | None:
        """Why these hosts cannot hold the least number of workers, naming both; None: they can."""
        if (there := self.places(hosts)) >= self.least:
            return None
        return (
            f"asked for {self.words()}; {cluster} has {there_are(hosts)}, room for {there}: "
            "ask for less, or add hosts."
        )

    def scaling(self) -> ScalingConfig:
        """The request in Ray's words.

        Raises:
            ClusterError: Ray refuses it, as workers that make up no whole number of TPU slices.
        """
        try:
            return ScalingConfig(
                num_workers=self.least if self.least == self.most else (self.least, self.most),
                use_gpu=bool(self.gpus),
                use_tpu=self.tpu is not None,
                topology=self.topology,
                accelerator_type=self.accelerator,
                resources_per_worker=None if self.tpu else self.resources(),
                placement_strategy="SPREAD",
            )
        except ValueError as error:
            raise ClusterError(f"{self.words()}: {error}") from error

    def words(self) -> str:
        """The request as in '2 to 4 workers x (CPU: 1, GPU: 8)'."""
        number = str(self.least) + ("" if self.least == self.most else f" to {self.most}")
        what = (
            f"TPU {self.tpu} hosts of topology {self.topology}"
            if self.tpu
            else f"workers x ({_words(self.resources())})"
        )
        return f"{number} {what}"


def request(
    workers: str = "1",
    devices_per_worker: int | None = None,
    gpus_per_worker: int = 0,
    tpu: str | None = None,
    topology: str | None = None,
    **rest: Any,
) -> Request:
    """A checked request from the command line's values.

    Raises:
        ClusterError: `workers` is neither N nor MIN:MAX; options that do not fit each other.
    """
    low, colon, high = workers.partition(":")
    try:
        least, most = int(low), int(high if colon else low)
    except ValueError:
        least, most = 0, 0
    if not 1 <= least <= most:
        raise ClusterError(f"--workers {workers}: expected N or MIN:MAX with 1 <= MIN <= MAX.")
    if tpu and gpus_per_worker:
        raise ClusterError(f"--tpu {tpu} and --gpus-per-worker {gpus_per_worker}: expected one.")
    if (tpu is None) != (topology is None):
        raise ClusterError("--tpu and --topology: expected both, as in --tpu v6e --topology 4x4.")
    if gpus_per_worker and devices_per_worker:
        raise ClusterError("--devices-per-worker counts CPU devices: leave it out beside GPUs.")
    if tpu and "heartbeat" in rest:
        raise ClusterError("--heartbeat: on TPU slices Ray starts jax, whose own 100 s hold.")
    return Request(least, most, devices_per_worker, gpus_per_worker, tpu, topology, **rest)


def variables(lines: Iterable[str], where: str) -> dict[str, str]:
    """NAME -> VALUE of lines NAME=VALUE; empty ones and those that begin with # are passed over.

    Args:
        where: the option or the file that they are of.

    Raises:
        ClusterError: another line, by its place: it may hold a secret.
    """
    found = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            if not equals or not name.isidentifier():
                raise ClusterError(f"{where}, line {number}: expected NAME=VALUE.")
            found[name] = value
    return found


def take_variables(env_file: str | None) -> None:
    """Give this process the variables of a file of its host, if any.

    Raises:
        ClusterError: the file cannot be read, or a line is not NAME=VALUE.
    """
    if env_file is None:
        return
    try:
        text = Path(env_file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ClusterError(
            f"--env-file {env_file}: {why} on {socket.gethostname()}: expected a file that is on "
            "every host of the cluster."
        ) from error
    os.environ.update(variables(text.splitlines(), f"--env-file {env_file}"))


@contextmanager
def joined(request: Request, say: Callable[[str], None]) -> Iterator[None]:
    """Inside, the cluster of the request is joined, or one started on this machine, and has room.

    To be entered before jax starts its threads, which forking processes does not go with.

    Raises:
        ClusterError: it makes no sense to Ray; the cluster cannot be reached, or has no room.
    """
    request.scaling()
    os.environ.update({k: v for k, v in SETTINGS.items() if k not in os.environ})
    address = request.address or os.environ.get("RAY_ADDRESS")
    if address is not None and "://" in address:
        raise ClusterError(
            f"{address}: expected HOST:PORT of the cluster itself, as HOST:6379, or auto on one of "
            "its hosts; `distgram submit` takes the URL of its dashboard."
        )
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address is None:
            # Workers here stand for hosts: as many as asked for, on whatever cores there are.
            cores = max(os.cpu_count() or 1, request.most)
            ray.init("local", num_cpus=cores, include_dashboard=False, **quiet)
        else:
            reach(address)
            ray.init(address, **quiet)
    except (ConnectionError, ValueError, RuntimeError, RayError) as error:  # a wrong token too
        raise ClusterError(
            f"{address or 'a cluster on this machine'}: no Ray cluster can be reached there "
            f"({' '.join(str(error).split())[:200]})."
        ) from error
    try:
        say(f"Ray {ray.__version__}, {address or 'on this machine'}: {there_are(_hosts())}")
        wait_for_resources(request)
        yield
    finally:
        ray.shutdown()


def reach(address: str) -> None:
    """Connect to HOST:PORT once: where nobody listens, Ray's own clients wait for minutes.

    Raises:
        ConnectionError: nobody does. An address of another kind is left to Ray.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), REACH_S).close()
        except (OSError, OverflowError) as error:
            raise ConnectionError(str(error)) from error


def wait_for_resources(request: Request, seconds: float = GIVEN_S) -> None:
    """Return once the cluster can hold the least number of workers.

    Raises:
        ClusterError: it could not within `seconds`; it names what was asked for and what is there.
    """
    until = time.monotonic() + seconds
    while refused := request.refusal("the cluster", _hosts()):
        if time.monotonic() > until:
            raise ClusterError(refused)
        time.sleep(1.0)


def there_are(hosts: Sequence[Host]) -> str:
    """The hosts of a cluster, in words."""
    return f"{len(hosts)} host(s): " + ", ".join(h.words() for h in hosts)


def _hosts() -> list[Host]:
    return [Host(n["Resources"], n.get("Labels") or {}) for n in ray.nodes() if n["Alive"]]


def _words(resources: Mapping[str, float]) -> str:
    names = [k for k in resources if k in ("CPU", "GPU", "TPU") or k.startswith("accelerator_type")]
    return ", ".join(f"{k}: {resources[k]:g}" for k in names) or "nothing"
