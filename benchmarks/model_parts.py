"""What the parts of the model work cost: `python -m benchmarks.model_parts --help`.

In this process, without servers: retrieval, each group of features, the trees, and reasons for pages of 20.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is imported, as in the servers

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import process_time
from typing import Annotated, Final, TypeVar

import numpy as np
import typer
from rich.table import Table

from benchmarks.servers import users_of
from candidate_service.retrieval import Retriever
from serving.bundle.factors import read_ratings
from serving.bundle.ranker import RankerContent
from serving.bundle.store import BundleStore
from serving.features.group import FeatureCall, FeatureQuery
from serving.ratings import Ratings
from serving.stages.candidate import CandidateQuery
from training.cli.terminal import Terminal

_PAGE: Final = 20
_FEATURES_SHOWN: Final = 3
_ROUNDS: Final = 5
_USERS_PER_CALL: Final = (1, 10, 100)

Result = TypeVar("Result")


def main(
    bundle_root: Annotated[Path, typer.Option(help="Directory of a published bundle.")],
    users: Annotated[int, typer.Option(min=1, help="Users to work for, in calls of 1, 10 and 100.")] = 100,
) -> None:
    """Measures and prints the processor time of each part for a user, in microseconds."""
    store = BundleStore(bundle_root)
    bundle_id = store.pointer().bundle_id
    retriever = Retriever.load(store, bundle_id)
    folder = store.folder(bundle_id, "ranking")
    ratings, content = read_ratings(folder), RankerContent.read(folder)
    known = users_of(bundle_root)
    asked = np.random.default_rng(0).permutation(known)[:users].tolist()
    costs = {
        many: _best([_work(retriever, ratings, content, asked, many) for _ in range(_ROUNDS)])
        for many in _USERS_PER_CALL
    }
    table = Table(title="Microseconds of processor time a user, the best of five rounds, by users in a call")
    for heading in ("part", *map(str, _USERS_PER_CALL)):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    for part in costs[1]:
        table.add_row(part, *(f"{costs[many][part] / len(asked) * 1e6:.0f}" for many in _USERS_PER_CALL))
    Terminal().print(table)


def _best(rounds: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    return {part: min(costs[part] for costs in rounds) for part in rounds[0]}


def _work(
    retriever: Retriever, ratings: Ratings, content: RankerContent, users: Sequence[int], many: int
) -> Mapping[str, float]:
    """Processor seconds by part, for all users, so many in a call."""
    seconds: defaultdict[str, float] = defaultdict(float)

    def timed(part: str, work: Callable[[], Result]) -> Result:
        began = process_time()
        result = work()
        seconds[part] += process_time() - began
        return result

    ids = content.tables.catalogue.movies.ids
    for start in range(0, len(users), many):
        called = users[start : start + many]
        found = timed("retrieval", lambda: retriever.retrieve([CandidateQuery(user) for user in called]))  # noqa: B023
        queries = [
            FeatureQuery(
                ratings.of(ratings.users.row(user)),
                ids.rows(one.movie_ids),
                one.scores,
                source_ranks=one.source_ranks,
            )
            for user, one in zip(called, found, strict=True)
        ]
        features = timed("all features", lambda: content.tables.compute(queries))  # noqa: B023
        call = FeatureCall(queries)
        for group in content.tables.groups:
            columns = np.empty((len(group.features), len(features)), np.float32)
            timed(f"  {group.NAME}", lambda: group.compute(call, columns))  # noqa: B023
        timed("trees", lambda: content.predict(features))  # noqa: B023
        for query, rows in call.parts:
            shown = slice(rows.start, min(rows.start + _PAGE, rows.stop))
            timed(
                "reasons for a page",
                lambda: content.explain(
                    features[shown],  # noqa: B023
                    history=query.history,  # noqa: B023
                    movie_rows=query.movie_rows[:_PAGE],  # noqa: B023
                    n_candidates=query.movie_rows.size,  # noqa: B023
                    limit=_FEATURES_SHOWN,
                ),
            )
    return seconds


if __name__ == "__main__":
    typer.run(main)
