"""What each group of features is worth and costs: `python -m benchmarks.feature_groups --help`.

Rankers as the selection of groups fits them, with all groups and with all but one, judge a validation part:
the test part is not looked at. Prints the table at the end of docs/features.md.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is imported, as in the servers
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated, Final

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console

from serving.features.group import FeatureCall, FeatureGroup, FeatureQuery
from serving.features.sets import FeatureSet
from serving.ids import Rows
from serving.sources import ALS_ALONE, Source, SourceWeights
from training.checkpoints import Checkpoints
from training.data.movielens.data_set import read_data_set
from training.engine.local import LocalEngine
from training.evaluation.judging import interval
from training.evaluation.splits import Split, SplitProtocol, split
from training.experiments.feature_selection import affordable, by_importance, tried
from training.experiments.source_weights import choose_source_weights, recalls_by_user
from training.experiments.validation_lists import ValidationLists
from training.features.documentation import MEASURED
from training.models.first_stage import FirstStage
from training.models.job_context import JobContext
from training.models.recipe import DEFAULT_PARAMETERS, RankerParameters, Recipe
from training.progress import Progress

_CALL_USERS: Final = 32
_MEASURED_USERS: Final = 320
_REPEATS: Final = 5
_EVERY_GROUP: Final = 1e6
"""Seconds that let a ranker learn from all groups of candidates."""

_HERE: Final = LocalEngine(2)


def main(
    data_dir: Annotated[
        Path, typer.Option(envvar="MOVIEREC_DATA_DIR", help="Folder of a MovieLens data set.")
    ],
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0 to n - 1: the mean of each user counts.")] = 3,
) -> None:
    """Prints a row per group and source: what is lost without it under both protocols, and what it takes."""
    table, clean = read_data_set(data_dir)
    progress = Progress(Console(quiet=True))
    parts: dict[SplitProtocol, _Part] = {}
    with TemporaryDirectory() as folder:  # what no seed changes is built once
        checkpoints = Checkpoints(Path(folder))
        for protocol in SplitProtocol:
            past = split(clean.ratings, protocol).train
            of_protocol = JobContext(table, _recipe(protocol, ALS_ALONE, 0), progress, _HERE, checkpoints)
            sources = choose_source_weights(past, of_protocol.part(protocol)).chosen
            judged = split(past, protocol)
            runs = []
            for seed in range(seeds):
                job = JobContext(table, _recipe(protocol, sources, seed), progress, _HERE, checkpoints)
                lists = ValidationLists.prepared(judged, job.part(f"{protocol}-{seed}"))
                runs.append(_gains(affordable(lists)))
            groups = {group: np.mean([run[group] for run in runs], axis=0) for group in runs[0]}
            parts[protocol] = _Part(
                judged.users.size, sources, groups, _recall_lost(judged, sources, of_protocol)
            )
    sources = parts[SplitProtocol.USER].sources
    job = JobContext(table, _recipe(SplitProtocol.USER, sources, 0), progress, _HERE)
    stage = FirstStage.fit(clean.ratings, job, "all ratings")
    queries = _queries(stage)
    lines = [
        MEASURED,
        "What a ranker with all groups loses without one, nDCG@10, and what the candidates lose without a",
        f"source, recall@{stage.n_candidates}: on the validation part of {data_dir.name}, with 95 %",
        f"intervals, {parts[SplitProtocol.USER].n_users} users under `user` and",
        f"{parts[SplitProtocol.TIME].n_users} under `time`; rankers of {seeds} seeds. Groups that always",
        "stay have no loss, nor has a source that was not chosen under a protocol. Microseconds are for",
        f"the {stage.n_candidates} candidates of a user: a group alone and among {_CALL_USERS} users in a",
        "call; a source by what merging takes longer with it.",
        "Printed by `python -m benchmarks.feature_groups`.",
        "",
        "| Group | Lost under `user` | Lost under `time` | µs alone | µs in a call |",
        "|---|---|---|---|---|",
    ]
    for group in stage.tables.groups:
        lost = (_cell(parts[protocol].groups.get(type(group))) for protocol in SplitProtocol)
        costs = (f"{_microseconds(group, queries, n):.0f}" for n in (1, _CALL_USERS))
        lines.append(f"| {group.NAME} | {' | '.join([*lost, *costs])} |")
    lines += ["", "| Source | Lost under `user` | Lost under `time` | µs |", "|---|---|---|---|"]
    for source in sources.used:
        lost = (_cell(parts[protocol].recall.get(source)) for protocol in SplitProtocol)
        lines.append(f"| {source} | {' | '.join(lost)} | {_merging_microseconds(stage, source)} |")
    typer.echo("\n".join(lines))


@dataclass(frozen=True)
class _Part:
    """What was found under one protocol."""

    n_users: int
    sources: SourceWeights
    """Chosen as training chooses them."""
    groups: Mapping[type[FeatureGroup], npt.NDArray[np.float64]]
    """nDCG@10 that each user loses without a group."""
    recall: Mapping[Source, npt.NDArray[np.float64]]
    """Recall that each user loses without a source."""


def _recipe(protocol: SplitProtocol, sources: SourceWeights, seed: int) -> Recipe:
    return Recipe(
        als=DEFAULT_PARAMETERS,
        ranker=RankerParameters(selection_seconds=_EVERY_GROUP),
        feature_groups=FeatureSet.EXTENDED.groups,
        sources=sources,
        protocol=protocol,
        seed=seed,
        threads=2,
    )


def _gains(lists: ValidationLists) -> dict[type[FeatureGroup], npt.NDArray[np.float64]]:
    """nDCG@10 that each user loses without each of the groups that may go."""
    every = FeatureSet.EXTENDED.groups
    with_all = tried(lists, every)
    return {
        group: with_all["ndcg"] - tried(lists, tuple(other for other in every if other is not group))["ndcg"]
        for group in by_importance(lists, with_all["importance"])
    }


def _recall_lost(
    judged: Split, sources: SourceWeights, job: JobContext
) -> dict[Source, npt.NDArray[np.float64]]:
    """Recall that each user loses without each of several sources."""
    if len(sources.used) == 1:
        return {}
    fewer = [replace(sources, **{source: 0.0}) for source in sources.used]
    with_all, *without = recalls_by_user(judged, [sources, *fewer], job)
    return {source: with_all - recall for source, recall in zip(sources.used, without, strict=True)}


def _cell(gains: npt.NDArray[np.float64] | None) -> str:
    if gains is None:
        return ""
    low, high = interval(gains)
    return f"{gains.mean():+.4f} [{low:+.4f}, {high:+.4f}]"


def _measured_users(stage: FirstStage) -> Rows:
    users = stage.served_users()
    return users[np.linspace(0, users.size - 1, min(_MEASURED_USERS, users.size)).astype(np.int64)]


def _queries(stage: FirstStage) -> list[FeatureQuery]:
    users = _measured_users(stage)
    return [
        FeatureQuery(
            stage.ratings.of(int(user)), found.movie_rows, found.scores, source_ranks=found.source_ranks
        )
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


def _merging_microseconds(stage: FirstStage, source: Source) -> str:
    """What a user's candidates take longer with a source than without; nothing for ALS, the base."""
    if source is Source.ALS:
        return ""
    users = _measured_users(stage)
    without = replace(
        stage, sources=replace(stage.sources, weights=replace(stage.sources.weights, **{source: 0.0}))
    )
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(_REPEATS):
        for has_source, measured in ((True, stage), (False, without)):
            began = perf_counter()
            for _found in measured.candidates(users):
                pass
            seconds[has_source].append(perf_counter() - began)
    return f"{1e6 * (min(seconds[True]) - min(seconds[False])) / users.size:.0f}"


if __name__ == "__main__":
    typer.run(main)
