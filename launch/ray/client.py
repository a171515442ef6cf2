"""Reaching the Jobs API of a Ray cluster; what it refuses is said in one sentence."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from distgram.errors import ClusterError, UserError

if TYPE_CHECKING:
    from distgram_launch.ray.cluster import Request
    from ray.job_submission import JobSubmissionClient

# Where Ray's own command line looks for the address: the first that is set.
ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
CONNECT_SECONDS = 10
MOST_HOSTS = 10_000  # the most that Ray's API gives


@contextmanager
def cluster(address: str | None) -> Iterator[JobSubmissionClient]:
    """The Jobs API of the cluster at a URL; without one, where Ray's own command line looks.

    Raises:
        ClusterError: no Ray here, none there, or what Ray says, in one sentence.
    """
    try:
        import requests
        from ray.exceptions import AuthenticationError, RpcError
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise ClusterError(f"Ray is missing ({error}): `pip install 'ray[default]'`.") from error
    if address is not None:
        if not re.match(r"(https?|ray)://.", address):
            raise ClusterError(
                f"--address {address!r}: expected the URL of the cluster's dashboard, as "
                f"http://{address if re.search('.:[0-9]', address) else 'HOST:8265'}."
            )
        os.environ[ADDRESSES[0]] = address  # an address given wins, unlike in Ray's own client
    said = next((os.environ[name] for name in ADDRESSES if os.environ.get(name)), None)
    where = said or "this machine"
    for handler in logging.getLogger("ray").handlers:
        handler.setLevel(logging.WARNING)
    try:
        if said and said.startswith("http"):  # Ray's client would wait for minutes
            requests.head(said, timeout=CONNECT_SECONDS)
        elif said:  # HOST:PORT of the cluster itself, as `solve --ray` takes it, or ray://
            from distgram_launch.ray.cluster import reach

            reach(said)
        yield JobSubmissionClient(said)
    except AuthenticationError as error:
        raise ClusterError(
            f"{where}: {error.message.splitlines()[0]}: set RAY_AUTH_MODE=token, and put what "
            "`ray get-auth-token` prints on its head node into RAY_AUTH_TOKEN, into "
            "~/.ray/auth_token, or into the file that RAY_AUTH_TOKEN_PATH names."
        ) from error
    except (ConnectionError, RpcError, requests.RequestException) as error:
        remedy = "is its dashboard up, and may this machine reach it?"
        if said is None:
            remedy = f"give --address http://HOST:8265, or set {ADDRESSES[0]}."
        raise ClusterError(f"{where}: no Ray cluster answers: {remedy}") from error
    except RuntimeError as error:
        if not str(error).startswith(("Request failed with status code", "Version check returned")):
            raise
        raise ClusterError(f"{where}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        line = (str(error).strip().splitlines() or [""])[0][:200]
        raise ClusterError(
            f"{where}: what it answers is not what Ray's dashboard would "
            f"({type(error).__name__}: {line}): is the address right?"
        ) from error


def check_room(client: JobSubmissionClient, asked: Request) -> None:
    """Whether the hosts of the cluster, were they free, could hold what a run asks for.

    Raises:
        ClusterError: they could not; it names what was asked for and what is there.
    """
    from distgram_launch.ray.cluster import Host
    from ray.util.state import list_nodes

    # All that live: unasked, Ray gives a hundred, those among them that have died too.
    alive = [("state", "=", "ALIVE")]
    nodes = list_nodes(client.get_address(), alive, limit=MOST_HOSTS, detail=True)  # type: ignore[arg-type]
    hosts = [
        Host(n.resources_total or {}, n.labels or {})  # type: ignore[union-attr]
        for n in nodes
    ]
    if refused := asked.refusal(client.get_address(), hosts):
        raise ClusterError(refused)
