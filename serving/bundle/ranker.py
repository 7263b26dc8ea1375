"""The ranking service's own files: the CatBoost model, its features' tables, its leaf tables."""

import json
import math
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from catboost import CatBoost, CatBoostError

from serving.bundle.catalogue import read_movies
from serving.bundle.factors import read_item_factors
from serving.bundle.manifest import FeatureRecord
from serving.bundle.store import BundleError, BundleFolder, write_arrays
from serving.explanations import Contribution, Explanation
from serving.features.group import CatalogueArrays, FeatureGroup
from serving.features.sets import feature_hash, groups_of_names, names_of_groups
from serving.features.tables import FeatureTables
from serving.ids import Rows
from serving.leaf_tables import LeafTables
from serving.ratings import History
from serving.similarity import unit_factors

_MODEL_FILE: Final = "ranker.cbm"
_FEATURES_FILE: Final = "features.json"
_LEAF_TABLES_FILE: Final = "leaf_tables.npz"


@dataclass(frozen=True)
class RankerContent:
    """Everything that turns candidates into scores and reasons."""

    model: CatBoost
    """Symmetric trees over numeric features."""
    tables: FeatureTables
    """What features are computed from."""
    leaf_tables: LeafTables
    """What explanations are added up from."""

    @property
    def record(self) -> FeatureRecord:
        """What a bundle says of the features."""
        kinds = names_of_groups(self.tables.kinds)
        return FeatureRecord(groups=kinds, names=self.tables.names, hash=self.tables.hash)

    def predict(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Scores, shape (n_rows,); a Fortran-ordered fresh matrix is fastest (CatBoost locks it)."""
        scores: npt.NDArray[np.float64] = self.model.predict(
            features, prediction_type="RawFormulaVal", thread_count=1
        )
        return scores

    def explain(
        self,
        features: npt.NDArray[np.float32],
        *,
        history: History,
        movie_rows: Rows,
        n_candidates: int,
        limit: int,
    ) -> tuple[Explanation, ...]:
        """Each movie's largest contributions by absolute value, ties in feature order.

        Args:
            features: shape (n_movies, n_features), of some movies of one user.
            history: of the user.
            movie_rows: shape (n_movies,).
            n_candidates: movies that were ranked together.
            limit: contributions per movie.
        """
        contributions = self.leaf_tables.contributions(features)
        strongest = np.argsort(-np.abs(contributions), axis=1, kind="stable")[:, :limit]
        places = np.arange(len(features))[:, None]
        parts = (strongest, features[places, strongest], contributions[places, strongest])
        columns, values, added = (part.tolist() for part in parts)
        by_column = self.tables.features
        named = {by_column[column][1].name for column in set(chain.from_iterable(columns))}
        behind = self.tables.movies_behind(history, movie_rows, named)
        explanations = []
        for place, row in enumerate(zip(columns, values, added, strict=True)):
            explanation = []
            for column, number, contribution in zip(*row, strict=True):
                group, feature = by_column[column]
                value = None if math.isnan(number) else number
                phrase = group.phrase(feature, value, n_candidates)
                movie_id = behind[feature.name][place] if feature.name in behind else None
                explanation.append(Contribution(feature.name, value, contribution, phrase, movie_id))
            explanations.append(tuple(explanation))
        return tuple(explanations)

    def write(self, folder: Path) -> None:
        """Writes all but the catalogue and the item factors, which the bundle's processes share."""
        folder.mkdir(parents=True, exist_ok=True)
        # CatBoost writes a random id and the time into every model: equal models, equal bytes.
        metadata = self.model.get_metadata()
        metadata["model_guid"] = "movierec"
        metadata["train_finish_time"] = "1970-01-01T00:00:00Z"
        self.model.save_model(str(folder / _MODEL_FILE))
        (folder / _FEATURES_FILE).write_text(self.record.model_dump_json(indent=1), encoding="utf-8")
        for group in self.tables.groups:
            if group.arrays:
                write_arrays(folder / group_file(type(group)), **group.arrays)
        write_arrays(folder / _LEAF_TABLES_FILE, **vars(self.leaf_tables))

    @classmethod
    def read(cls, folder: BundleFolder) -> "RankerContent":
        """Reads what `write` wrote, the catalogue and the item factors.

        Raises:
            BundleError: the model was trained on other features than this version computes, or is damaged.
        """
        record = json.loads(folder.read(_FEATURES_FILE))
        movies = read_movies(folder)
        try:
            kinds = groups_of_names(record["groups"])
        except ValueError:  # of a group that this version does not have
            kinds = ()
        if record["hash"] != feature_hash(kinds, movies.genres):
            raise BundleError(
                f"bundle {folder.manifest.bundle_id}: its features are not those that this version computes; "
                "train again or serve with the version that trained it"
            )
        model = CatBoost()
        try:
            model.load_model(blob=folder.read(_MODEL_FILE))
        # A trial may have passed: what CatBoost makes of a damaged model can depend on the memory behind it.
        except CatBoostError as error:
            raise BundleError(f"bundle {folder.manifest.bundle_id}: {_MODEL_FILE}: {error}") from error
        catalogue = CatalogueArrays(movies, unit_factors(read_item_factors(folder)))
        tables = FeatureTables(catalogue, tuple(_read_group(folder, kind, catalogue) for kind in kinds))
        leaves = dict(folder.arrays(_LEAF_TABLES_FILE, *(field.name for field in fields(LeafTables))))
        base_value = float(leaves.pop("base_value"))
        return cls(model, tables, LeafTables(**leaves, base_value=base_value))


def group_file(group: type[FeatureGroup]) -> str:
    """Name of the file with a group's arrays."""
    return f"features_{group.NAME}.npz"


def _read_group(folder: BundleFolder, group: type[FeatureGroup], catalogue: CatalogueArrays) -> FeatureGroup:
    names = group.array_names()
    return group(catalogue, **folder.arrays(group_file(group), *names) if names else {})
