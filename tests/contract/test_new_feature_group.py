"""A new group of features is two files and its place in the list: it trains, serves and explains itself."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from serving.features.sets import FeatureSet, feature_hash, feature_names
from serving.movies import MOVIELENS_GENRES

ROOT = Path(__file__).parents[2]

SERVED = '''
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from serving.features.group import Columns, Feature, FeatureCall, FeatureGroup


@dataclass(frozen=True)
class WeekendFeatures(FeatureGroup):
    """Whether a movie is one for weekends."""

    NAME: ClassVar = "weekend"
    VERSION: ClassVar = 1
    FEATURES: ClassVar = (
        Feature("weekend_share", "{value:.0%} of its ratings are of weekends", "never at weekends"),
    )

    shares: npt.NDArray[np.float32]
    """Shape (n_movies,)."""

    def compute(self, call: FeatureCall, out: Columns) -> None:
        (share,) = out
        share[:] = self.shares[call.movie_rows]
'''

TRAINED = """
import numpy as np


def build(ratings, table, engine):
    n_movies = len(table.movies.ids)
    weekend = (ratings.times // 86_400 + 3) % 7 >= 5
    counts = np.bincount(ratings.movie_rows, minlength=n_movies)
    shares = np.bincount(ratings.movie_rows, weights=weekend, minlength=n_movies) / np.maximum(counts, 1)
    return {"shares": shares.astype(np.float32)}
"""

TRAIN_AND_SERVE = """
import json, sys
from pathlib import Path

from ranking_service.ranking import Ranker
from serving.bundle.store import BundleStore
from training.features.documentation import document
from serving.movies import MOVIELENS_GENRES
from serving.stages.ranking import RankingQuery, decode_request, encode_response
from tests.training.small import JOB, PROGRESS, RECIPE, table_of, tastes
from training.models.ranker_selection import RankerChoice
from training.models.recipe import Loss
from training.models.two_stage import fit_two_stage
from training.publish.publish import Build, publish

table, root = table_of(), Path(sys.argv[1])
two_stage = fit_two_stage(tastes(), JOB, RankerChoice(Loss.LOGLOSS, 20, validation_ndcg={}))
bundle_id = publish(root, Build(two_stage, table, RECIPE, "tastes", {}), PROGRESS, settle_seconds=0)
store = BundleStore(root)
ranker = Ranker.load(store, bundle_id)
(found,) = two_stage.stage.candidates([0])
query = RankingQuery(1, table.movies.ids.ids[found.movie_rows], found.scores, explain_features=100)
response = encode_response(ranker.rank([query]).lists, bundle_id, ranker.base_value)
reasons = [c for e in response.lists[0].explanations for c in e.contributions if c.feature == "weekend_share"]
shares = two_stage.stage.tables.groups[-1].shares
json.dump(
    {
        "files": sorted(store.manifest(bundle_id).files),
        "hash": store.manifest(bundle_id).features.hash,
        "trained on": two_stage.ranker.feature_names_,
        "values": [c.value for c in reasons],
        "expected": [float(shares[table.movies.ids.row(i)]) for i in response.lists[0].movie_ids],
        "phrases": [c.phrase for c in reasons],
        "page": document(""),
    },
    sys.stdout,
)
"""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a job and a server of the sources with the group say."""
    folder = tmp_path_factory.mktemp("sources")
    for package in ("ranking_service", "serving", "training"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "serving/features/weekend.py").write_text(SERVED)
    (folder / "training/features/weekend.py").write_text(TRAINED)
    sets = folder / "serving/features/sets.py"
    text = sets.read_text()
    last = "            GenreFeatures,\n"
    assert last in text
    entry = text.replace(last, f"{last}            WeekendFeatures,\n")
    sets.write_text(
        entry.replace(
            "\n\nFeatureGroups", "\nfrom serving.features.weekend import WeekendFeatures\n\n\nFeatureGroups"
        )
    )
    run = subprocess.run(
        [sys.executable, "-c", TRAIN_AND_SERVE, str(folder / "artifacts")],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (folder, ROOT / "protos/gen", ROOT)))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def test_it_trains(outcome: dict[str, Any]) -> None:
    assert outcome["trained on"] == [
        *feature_names(FeatureSet.EXTENDED.groups, MOVIELENS_GENRES),
        "weekend_share",
    ]
    assert "ranking/features_weekend.npz" in outcome["files"]
    assert outcome["hash"] != feature_hash(FeatureSet.EXTENDED.groups, MOVIELENS_GENRES)


def test_it_serves_what_training_built(outcome: dict[str, Any]) -> None:
    assert len(outcome["values"]) > 10
    assert outcome["values"] == outcome["expected"]
    assert 0 < sum(outcome["values"]) < len(outcome["values"])


def test_it_explains_itself(outcome: dict[str, Any]) -> None:
    for value, phrase in zip(outcome["values"], outcome["phrases"], strict=True):
        assert phrase == (f"{value:.0%} of its ratings are of weekends" if value > 0 else "never at weekends")


def test_it_is_in_the_docs(outcome: dict[str, Any]) -> None:
    assert "## weekend, version 1" in outcome["page"]
    assert "| `weekend_share` | {value:.0%} of its ratings are of weekends |" in outcome["page"]
