"""The CatBoost ranker: stage two."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt
from catboost import CatBoost, Pool, sum_models

from serving.features.sets import feature_names
from training.models.job_context import JobContext
from training.models.recipe import Loss

_REGULARIZATION: Final[Mapping[Loss, Mapping[str, float]]] = MappingProxyType(
    {
        Loss.LOGLOSS: {"leaf_estimation_iterations": 1, "l2_leaf_reg": 10, "rsm": 0.5},
        Loss.YETI_RANK: {},
    }
)
"""Where CatBoost's own way fits few groups too closely: with Logloss that is ten steps to estimate a leaf, a
penalty of 3, and all features to choose each split from."""
_N_RANKERS: Final = 3
"""Fitted with a seed each and summed: one fitted anew differs by as much as a group of features is worth."""


def ranker_seeds(seed: int) -> range:
    """Seeds of the rankers that are summed; those of two different seeds have none in common."""
    return range(_N_RANKERS * seed, _N_RANKERS * (seed + 1))


@dataclass(frozen=True)
class Groups:
    """Labelled candidates, group after group: what a ranker learns from."""

    features: npt.NDArray[np.float32]
    """Shape (n_rows, n_features), Fortran order."""
    labels: npt.NDArray[np.float32]
    """Shape (n_rows,): 1 for a movie liked in the inner future, else 0."""
    group_ids: npt.NDArray[np.int64]
    """Shape (n_rows,), ascending."""

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """Shape (n_rows,), 1 on average: each group counts as much, however many likes it is made of."""
        _, group, sizes = np.unique(self.group_ids, return_inverse=True, return_counts=True)
        return (self.group_ids.size / sizes.size) / sizes[group]

    @classmethod
    def of_lists(
        cls,
        matrices: Sequence[npt.NDArray[np.float32]],
        labels: Sequence[npt.NDArray[np.bool_]],
        group_ids: Sequence[npt.NDArray[np.int64]],
        *,
        n_features: int,
    ) -> "Groups":
        """Groups from one matrix, label and id array per group."""
        return cls(
            features=np.asfortranarray(np.concatenate([np.empty((0, n_features), np.float32), *matrices])),
            labels=np.concatenate([np.empty(0, np.bool_), *labels]).astype(np.float32),
            group_ids=np.concatenate([np.empty(0, np.int64), *group_ids]),
        )

    @classmethod
    def stacked(cls, parts: Sequence["Groups"]) -> "Groups":
        """All parts after one another; a user who is in several gives a group in each."""
        offsets = np.cumsum([0, *(int(part.group_ids.max(initial=-1)) + 1 for part in parts)])
        return cls(
            features=np.asfortranarray(np.concatenate([part.features for part in parts])),
            labels=np.concatenate([part.labels for part in parts]),
            group_ids=np.concatenate(
                [part.group_ids + offset for part, offset in zip(parts, offsets, strict=False)]
            ),
        )

    def where(self, mask: npt.NDArray[np.bool_]) -> "Groups":
        """The rows that `mask`, shape (n_rows,), keeps."""
        return Groups(np.asfortranarray(self.features[mask]), self.labels[mask], self.group_ids[mask])


def fit_ranker(
    groups: Groups,
    loss: Loss,
    iterations: int,
    job: JobContext,
    *,
    seed: int,
    held_out: Groups | None = None,
) -> CatBoost:
    """Trains so many trees on all groups, with all else but the seed as the job's recipe says.

    The result depends on the recipe's threads as well. Early stopping, if it is asked for, looks at
    `held_out`.
    """
    parameters = job.recipe.ranker
    names = feature_names(job.recipe.feature_groups, job.table.movies.genres)
    model = CatBoost(
        {
            "loss_function": loss.value,
            "iterations": iterations,
            "learning_rate": parameters.learning_rate,
            "depth": parameters.depth,
            "random_seed": seed,
            "thread_count": job.recipe.threads,
            "border_count": 64,
            **_REGULARIZATION[loss],
            "nan_mode": "Min",
            "allow_writing_files": False,
            "verbose": False,
        }
    )
    if held_out is None or parameters.early_stopping_rounds is None:
        model.fit(_pool(groups, names, weights=groups.weights))
    else:
        model.set_params(eval_metric="NDCG:top=10;type=Base")
        model.fit(
            _pool(groups, names, weights=groups.weights),
            eval_set=_pool(held_out, names),
            early_stopping_rounds=parameters.early_stopping_rounds,
            use_best_model=False,  # the trees are chosen by the mean over three neighbouring numbers
        )
    return model


def _pool(groups: Groups, names: tuple[str, ...], *, weights: npt.NDArray[np.float64] | None = None) -> Pool:
    # The pool locks the array it is given: our groups are used again.
    return Pool(
        groups.features.copy(order="F"),
        label=groups.labels,
        group_id=groups.group_ids,
        group_weight=weights,
        feature_names=list(names),
    )


def mean_ranker(rankers: Sequence[CatBoost]) -> CatBoost:
    """The ranker whose scores are the mean of theirs: it has all their trees."""
    mean = sum_models(list(rankers), weights=[1 / len(rankers)] * len(rankers))
    metadata = mean.get_metadata()
    for of_one in [name for name in dict(metadata) if ":" in name]:  # a random id and a time are among them
        del metadata[of_one]
    return mean


def model_bytes(model: CatBoost) -> npt.NDArray[np.uint8]:
    """The model in CatBoost's own format, shape (n_bytes,)."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.cbm"
        model.save_model(str(path))
        return np.frombuffer(path.read_bytes(), dtype=np.uint8)


def model_of(content: npt.NDArray[np.uint8]) -> CatBoost:
    """The model that `model_bytes` wrote down."""
    model = CatBoost()
    model.load_model(blob=content.tobytes())
    return model
