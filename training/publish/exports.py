"""What a bundle holds for analysts, in `exports/`: tables, importances, a summary. Servers read none."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import parquet

from serving.bundle.neighbours import NeighboursContent
from serving.features.group import Feature
from serving.features.movie import MovieFeatures
from serving.features.pace import PaceFeatures, user_pace
from serving.features.user import UserFeatures, user_statistics
from serving.ids import IdMap
from training.data.movielens.movies import MovieTable
from training.models.two_stage import TwoStage


def write_exports(
    folder: Path,
    two_stage: TwoStage,
    table: MovieTable,
    neighbours: NeighboursContent,
    summary: Mapping[str, object],
) -> None:
    """Writes all of it; `summary` is what `training_summary.json` says."""
    folder.mkdir(parents=True, exist_ok=True)
    stage = two_stage.stage
    histories = [stage.ratings.of(row) for row in range(len(stage.ratings.users))]
    users = np.stack([np.concatenate([user_statistics(own), user_pace(own)]) for own in histories])
    by_user = pd.DataFrame(users, columns=_names(UserFeatures.FEATURES + PaceFeatures.FEATURES))
    by_user.insert(0, "userId", stage.ratings.users.ids)
    by_user.to_parquet(folder / "user_features.parquet", index=False)
    movies = stage.tables.group(MovieFeatures)
    by_movie = pd.DataFrame(movies.values, columns=_names(movies.features))
    by_movie.insert(0, "movieId", table.movies.ids.ids)
    by_movie.to_parquet(folder / "item_features.parquet", index=False)
    write_similarity_index(folder / "similarity_index.parquet", neighbours, table.movies.ids)
    importances = pd.DataFrame(
        {
            "feature": stage.tables.names,
            "importance": two_stage.ranker.get_feature_importance(type="PredictionValuesChange"),
        }
    )
    importances.sort_values("importance", ascending=False, kind="stable").to_csv(
        folder / "feature_importances.csv", index=False
    )
    (folder / "training_summary.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")


def _names(features: Sequence[Feature]) -> list[str]:
    return [feature.name for feature in features]


def write_similarity_index(path: Path, neighbours: NeighboursContent, movie_ids: IdMap) -> None:
    """Columns movieId, similar_ids and similarity_scores, nearest first; empty lists where none is alike."""
    found = neighbours.movie_rows >= 0
    offsets = pa.array(np.concatenate([[0], np.cumsum(found.sum(axis=1))]), pa.int32())
    columns = {
        "movieId": pa.array(movie_ids.ids, pa.int64()),
        "similar_ids": pa.ListArray.from_arrays(
            offsets, pa.array(movie_ids.ids[neighbours.movie_rows[found]], pa.int64())
        ),
        "similarity_scores": pa.ListArray.from_arrays(
            offsets, pa.array(neighbours.scores[found], pa.float32())
        ),
    }
    parquet.write_table(pa.table(columns), path)
