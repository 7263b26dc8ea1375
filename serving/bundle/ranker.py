"""The ranking service's own files: the CatBoost model, its features' tables, its leaf tables."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from catboost import CatBoost

from serving.bundle.factors import read_item_factors
from serving.bundle.store import BundleError, BundleFolder, write_arrays
from serving.features import FEATURE_NAMES, FeatureSet, FeatureTables, MovieLinks, feature_hash
from serving.leaf_tables import LeafTables
from serving.similarity import unit_factors

_MODEL_FILE = "ranker.cbm"
_FEATURES_FILE = "features.json"
_MOVIE_FEATURES_FILE = "movie_features.npz"
_TRANSITIONS_FILE = "transitions.npz"
_COOCCURRENCE_FILE = "cooccurrence.npz"
_LEAF_TABLES_FILE = "leaf_tables.npz"


@dataclass(frozen=True)
class RankerContent:
    """Everything that turns candidates into scores and reasons."""

    model: CatBoost
    """Symmetric trees over numeric features."""
    tables: FeatureTables
    """What features are computed from."""
    leaf_tables: LeafTables
    """What explanations are added up from."""

    def predict(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Scores, shape (n_rows,); a Fortran-ordered fresh matrix is fastest (CatBoost locks it)."""
        scores: npt.NDArray[np.float64] = self.model.predict(
            features, prediction_type="RawFormulaVal", thread_count=1
        )
        return scores

    def write(self, folder: Path) -> None:
        """Writes all but the item factors, which the bundle's processes share."""
        folder.mkdir(parents=True, exist_ok=True)
        # CatBoost writes a random id and the time into every model: equal models, equal bytes.
        metadata = self.model.get_metadata()
        metadata["model_guid"] = "movierec"
        metadata["train_finish_time"] = "1970-01-01T00:00:00Z"
        self.model.save_model(str(folder / _MODEL_FILE))
        names = self.tables.names
        record = {
            "feature_set": self.tables.feature_set,
            "names": names,
            "dtype": "float32",
            "hash": feature_hash(names),
        }
        (folder / _FEATURES_FILE).write_text(json.dumps(record, indent=1), encoding="utf-8")
        write_arrays(
            folder / _MOVIE_FEATURES_FILE,
            movie_features=self.tables.movie_features,
            first_times=self.tables.first_times,
            recent_ratings=self.tables.recent_ratings,
            span=np.array([self.tables.oldest_time, self.tables.newest_time]),
        )
        _write_links(folder / _TRANSITIONS_FILE, self.tables.transitions)
        _write_links(folder / _COOCCURRENCE_FILE, self.tables.cooccurrence)
        leaves = self.leaf_tables
        write_arrays(
            folder / _LEAF_TABLES_FILE,
            split_features=leaves.split_features,
            split_borders=leaves.split_borders,
            leaf_features=leaves.leaf_features,
            leaf_contributions=leaves.leaf_contributions,
            base_value=np.array(leaves.base_value),
        )

    @classmethod
    def read(cls, folder: BundleFolder) -> "RankerContent":
        """Reads what `write` wrote, and the item factors.

        Raises:
            BundleError: the model was trained on other features than this version computes.
        """
        record = json.loads(folder.read(_FEATURES_FILE))
        feature_set = FeatureSet(record["feature_set"])
        names = FEATURE_NAMES[feature_set]
        if record["hash"] != feature_hash(names):
            raise BundleError(
                f"bundle {folder.manifest.bundle_id}: its '{feature_set}' features are not those that "
                "this version computes; train again or serve with the version that trained it"
            )
        model = CatBoost()
        model.load_model(blob=folder.read(_MODEL_FILE))
        item_factors = read_item_factors(folder)
        movie_arrays = dict(
            folder.arrays(_MOVIE_FEATURES_FILE, "movie_features", "first_times", "recent_ratings", "span")
        )
        oldest_time, newest_time = movie_arrays.pop("span").tolist()
        tables = FeatureTables(
            feature_set=feature_set,
            item_unit_factors=unit_factors(item_factors),
            transitions=_read_links(folder, _TRANSITIONS_FILE),
            cooccurrence=_read_links(folder, _COOCCURRENCE_FILE),
            oldest_time=oldest_time,
            newest_time=newest_time,
            **movie_arrays,
        )
        leaves = dict(
            folder.arrays(
                _LEAF_TABLES_FILE,
                "split_features",
                "split_borders",
                "leaf_features",
                "leaf_contributions",
                "base_value",
            )
        )
        base_value = float(leaves.pop("base_value"))
        return cls(model, tables, LeafTables(**leaves, base_value=base_value))


def _write_links(path: Path, links: MovieLinks) -> None:
    write_arrays(path, indptr=links.indptr, movie_rows=links.movie_rows, weights=links.weights)


def _read_links(folder: BundleFolder, file_name: str) -> MovieLinks:
    return MovieLinks(**folder.arrays(file_name, "indptr", "movie_rows", "weights"))
