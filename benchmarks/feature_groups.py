"""What each group of features is worth and costs: `python -m benchmarks.feature_groups --help`.

Rankers as the selection of groups fits them, with all groups and with all but one, judge a validation part:
the test part is not looked at. Prints the table at the end of docs/features.md.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is imported, as in the servers
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated, Final

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console

from serving.features.documentation import MEASURED
from serving.features.group import FeatureCall, FeatureGroup, FeatureQuery
from serving.features.sets import FeatureSet
from training.checkpoints import Checkpoints
from training.data.movielens.data_set import read_data_set
from training.evaluation.judging import interval
from training.evaluation.splits import SplitProtocol, split
from training.experiments.feature_selection import Trial
from training.models.first_stage import FirstStage, fit_first_stage
from training.models.job_context import JobContext
from training.models.recipe import RankerParameters, Recipe, default_parameters
from training.progress import Progress

_CALL_USERS: Final = 32
_MEASURED_USERS: Final = 320
_REPEATS: Final = 5
_EVERY_GROUP: Final = 1e6
"""Seconds that let a ranker learn from all groups of candidates."""


def main(
    data_dir: Annotated[
        Path, typer.Option(envvar="MOVIEREC_DATA_DIR", help="Folder of a MovieLens data set.")
    ],
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0 to n - 1: the mean of each user counts.")] = 3,
) -> None:
    """Prints a row per group: what a ranker loses without it under both protocols, and what it takes."""
    table, clean = read_data_set(data_dir)
    progress = Progress(Console(quiet=True))
    gains, users = {}, {}
    with TemporaryDirectory() as folder:  # what no seed changes is built once
        checkpoints = Checkpoints(Path(folder))
        for protocol in SplitProtocol:
            judged = split(split(clean.ratings, protocol).train, protocol)
            users[protocol] = judged.users.size
            runs = []
            for seed in range(seeds):
                job = JobContext(table, _recipe(protocol, seed), progress, checkpoints)
                runs.append(_gains(Trial.prepared(judged, job.part(f"{protocol}-{seed}"))))
            gains[protocol] = {group: np.mean([run[group] for run in runs], axis=0) for group in runs[0]}
    job = JobContext(table, _recipe(SplitProtocol.USER, 0), progress)
    stage = fit_first_stage(clean.ratings, job, "all ratings")
    lines = [
        MEASURED,
        "What a ranker with all groups loses without one: nDCG@10 on the validation part of",
        f"{data_dir.name}, mean of {seeds} seeds, with 95 % intervals: {users[SplitProtocol.USER]} users",
        f"under `user`, {users[SplitProtocol.TIME]} under `time`. Groups that always stay have no loss. And",
        f"microseconds for the {stage.n_candidates} candidates of a user, alone and among {_CALL_USERS}.",
        "Printed by `python -m benchmarks.feature_groups`.",
        "",
        "| Group | Lost under `user` | Lost under `time` | µs alone | µs in a call |",
        "|---|---|---|---|---|",
    ]
    queries = _queries(stage)
    for group in stage.tables.groups:
        lost = (_cell(gains[protocol].get(type(group))) for protocol in SplitProtocol)
        costs = (f"{_microseconds(group, queries, n):.0f}" for n in (1, _CALL_USERS))
        lines.append(f"| {group.NAME} | {' | '.join([*lost, *costs])} |")
    typer.echo("\n".join(lines))


def _recipe(protocol: SplitProtocol, seed: int) -> Recipe:
    return Recipe(
        als=default_parameters(n_users=0),
        ranker=RankerParameters(selection_seconds=_EVERY_GROUP),
        feature_groups=FeatureSet.EXTENDED.groups,
        protocol=protocol,
        seed=seed,
        threads=2,
    )


def _gains(trial: Trial) -> dict[type[FeatureGroup], npt.NDArray[np.float64]]:
    """nDCG@10 that each user loses without each of the groups that may go."""
    every = FeatureSet.EXTENDED.groups
    with_all = trial.ndcg(every)
    return {
        group: with_all - trial.ndcg(tuple(other for other in every if other is not group))
        for group in trial.by_importance()
    }


def _cell(gains: npt.NDArray[np.float64] | None) -> str:
    if gains is None:
        return ""
    low, high = interval(gains)
    return f"{gains.mean():+.4f} [{low:+.4f}, {high:+.4f}]"


def _queries(stage: FirstStage) -> list[FeatureQuery]:
    users = stage.served_users()
    users = users[np.linspace(0, users.size - 1, min(_MEASURED_USERS, users.size)).astype(np.int64)]
    return [
        FeatureQuery(stage.ratings.of(int(user)), found.movie_rows, found.scores)
        for user, found in zip(users, stage.candidates(users), strict=True)
    ]


def _microseconds(group: FeatureGroup, queries: Sequence[FeatureQuery], n_users: int) -> float:
    """A user's share of the computing of one group in calls of `n_users`: the least of some rounds."""
    calls = [
        FeatureCall(queries[start : start + n_users])
        for start in range(0, len(queries) - n_users + 1, n_users)
    ]
    outs = [np.empty((len(group.features), call.movie_rows.size), np.float32) for call in calls]
    rounds = []
    for _ in range(_REPEATS):
        began = perf_counter()
        for call, out in zip(calls, outs, strict=True):
            group.compute(call, out)
        rounds.append(perf_counter() - began)
    return 1e6 * min(rounds) / (len(calls) * n_users)


if __name__ == "__main__":
    typer.run(main)
