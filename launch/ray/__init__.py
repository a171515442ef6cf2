"""Runs on a Ray cluster: as one command that waits for them, and as jobs that go on by themselves.

`cluster` says what a run asks for, `backend` makes one job of jax of the workers, `worker` is what
runs in each of them and `train` what drives them. `jobs`, `client` and `follow` use the Jobs API;
`commands` are those that a person types.
"""
