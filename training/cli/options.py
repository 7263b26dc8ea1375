"""Options that several commands share, and the recipe that they make."""

import json
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias, get_type_hints

import typer

from serving.features.sets import FeatureSet
from serving.fold_in import AlsParameters, Confidence
from serving.ratings import Ratings
from training.data.movielens.layouts import DATA_DIR_VARIABLE
from training.errors import TrainingError
from training.evaluation.splits import SplitProtocol
from training.models.recipe import REFERENCE_PARAMETERS, RankerParameters, Recipe, default_parameters

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from training.experiments.studies import Tuning


class Preset(StrEnum):
    """Parameters of ALS."""

    DEFAULT = "default"
    """Likes weigh; regularised for the size of the data set."""
    REFERENCE = "reference"
    """The reference's, for comparison."""


class ProtocolOption(StrEnum):
    """How the future is cut off, in evaluation and for the ranker's labels alike."""

    AUTO = "auto"
    """`time` where it leaves at least 300 users to learn from and to judge by, else `user`."""
    USER = "user"
    TIME = "time"


ROOT: Final = Path("artifacts")
"""Where bundles lie unless told otherwise; the demo serves them from there."""

_LIMITS: Final[Mapping[str, Mapping[str, tuple[float, float]]]] = MappingProxyType(
    {
        "als": {
            "factors": (1, 2_000),
            "iterations": (1, 1_000),
            "regularization": (0.0, 1e6),
            "alpha": (0.0, 1e6),
        },
        "ranker": {
            "iterations": (1, 10_000),
            "learning_rate": (1e-4, 1.0),
            "depth": (1, 10),
            "relevance_threshold": (0.5, 5.0),
            "negatives": (1, 1_000_000),
            "max_users": (1, 10_000_000),
        },
    }
)
"""Least and greatest value of each number by stage, whether an option or a file of parameters gives it."""

_PANELS: Final = MappingProxyType({"als": "ALS", "ranker": "Ranker"})

DataDir: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        envvar=DATA_DIR_VARIABLE,
        help="Folder of a MovieLens data set. Unset: data/ml-latest-small, else a download, else a sample.",
    ),
]
BundleRoot: TypeAlias = Annotated[
    Path, typer.Option(help="Folder of the bundles, the pointer, preprocessed ratings and MLflow's store.")
]
Sample: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--sample", help="A tenth of the users, idle and active alike; bundles go to `sample` below the root."
    ),
]
DatasetTag: TypeAlias = Annotated[
    str | None, typer.Option(help="Name of the data and their state. Unset: name and hash of the ratings.")
]
Seed: TypeAlias = Annotated[
    int, typer.Option(min=0, max=2**31 - 1, help="Of every random choice: equal seeds, equal bundles.")
]
Threads: TypeAlias = Annotated[
    int, typer.Option(min=1, max=256, help="Of ALS and CatBoost. Another number, another bundle.")
]
ProtocolChoice: TypeAlias = Annotated[ProtocolOption, typer.Option(help="How the future is cut off.")]
Features: TypeAlias = Annotated[FeatureSet, typer.Option(help="What the ranker sees.")]
PresetOption: TypeAlias = Annotated[
    Preset, typer.Option(help="Parameters of ALS.", rich_help_panel=_PANELS["als"])
]
ParamsFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--params", exists=True, dir_okay=False, help="Parameters that `tune` found; options win."),
]


def _tracking_uri(uri: str | None) -> str | None:
    if not uri:
        return None
    from training.release.registry import require_tracking_uri

    try:
        require_tracking_uri(uri)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return uri


TrackingUri: TypeAlias = Annotated[
    str | None,
    typer.Option(
        envvar="MLFLOW_TRACKING_URI",
        help="MLflow server to send runs to. Unset: they stay in the local store.",
        callback=_tracking_uri,
    ),
]


SettleSeconds: TypeAlias = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=3_600.0,
        help="Least time between two bundles, as long as the servers' settle delay: else it waits.",
    ),
]


def _parameter(stage: str, name: str, help_text: str) -> Any:
    low, high = _LIMITS[stage][name]
    return typer.Option(help=help_text, rich_help_panel=_PANELS[stage], min=low, max=high)


_PRESETS: Final = "Unset: the preset's."
Factors: TypeAlias = Annotated[int | None, _parameter("als", "factors", f"Length of a vector. {_PRESETS}")]
AlsIterations: TypeAlias = Annotated[int | None, _parameter("als", "iterations", f"Alternations. {_PRESETS}")]
Regularization: TypeAlias = Annotated[
    float | None, _parameter("als", "regularization", "λ. Unset: chosen on a validation part.")
]
Alpha: TypeAlias = Annotated[float | None, _parameter("als", "alpha", f"α of the confidence. {_PRESETS}")]
ConfidenceMode: TypeAlias = Annotated[
    Confidence | None,
    typer.Option(help=f"How ratings become confidence. {_PRESETS}", rich_help_panel=_PANELS["als"]),
]
RankerIterations: TypeAlias = Annotated[
    int | None,
    _parameter(
        "ranker", "iterations", "Trees at the most: how many is chosen on held-out groups. Unset: 300."
    ),
]
LearningRate: TypeAlias = Annotated[float | None, _parameter("ranker", "learning_rate", "Unset: 0.05.")]
Depth: TypeAlias = Annotated[int | None, _parameter("ranker", "depth", "Of a tree. Unset: 6.")]
RelevanceThreshold: TypeAlias = Annotated[
    float | None,
    _parameter("ranker", "relevance_threshold", "Stars from which a label is positive. Unset: 4."),
]
Negatives: TypeAlias = Annotated[
    int | None, _parameter("ranker", "negatives", "Unliked candidates kept per group. Unset: 75.")
]
MaxRankerUsers: TypeAlias = Annotated[
    int | None, _parameter("ranker", "max_users", "Groups at the most. Unset: 10,000.")
]


class ParametersError(TrainingError):
    """A file of parameters that cannot be used."""


Asked: TypeAlias = Mapping[str, Any]
"""Parameters by name; None: not asked for, and the preset's is taken."""


def regularization_is_open(preset: Preset, asked: Asked) -> bool:
    """Whether λ of ALS is to be chosen: nobody asked for one, nor for the preset of another project."""
    return preset is Preset.DEFAULT and asked.get("regularization") is None


def als_of_options(ratings: Ratings, preset: Preset, asked: Asked) -> AlsParameters:
    """Parameters of ALS: the preset, but for what was asked for."""
    chosen = REFERENCE_PARAMETERS if preset is Preset.REFERENCE else default_parameters(len(ratings.users))
    return replace(chosen, **_given(asked))


def recipe_of_options(
    ratings: Ratings,
    *,
    preset: Preset = Preset.DEFAULT,
    params: Path | None = None,
    als: Asked = MappingProxyType({}),
    ranker: Asked = MappingProxyType({}),
    features: FeatureSet = FeatureSet.EXTENDED,
    protocol: ProtocolOption = ProtocolOption.AUTO,
    seed: int = 0,
    threads: int = 2,
) -> Recipe:
    """The recipe: the preset, then the file, then single parameters.

    Raises:
        ParametersError: the file holds something else than parameters.
    """
    found = _read(params) if params is not None else {}
    asked = {**found.get("als", {}), **_given(als)}
    return Recipe(
        als=als_of_options(ratings, preset, asked),
        ranker=replace(RankerParameters(), **{**found.get("ranker", {}), **_given(ranker)}),
        feature_set=features,
        protocol=chosen_protocol(ratings, protocol),
        seed=seed,
        threads=threads,
        choose_regularization=regularization_is_open(preset, asked),
    )


def tuning_of_options(params: Path | None) -> "Tuning | None":
    """The search behind a file of parameters, if there was one.

    Raises:
        ParametersError: the file holds something else.
    """
    from training.experiments.studies import Tuning

    try:
        return None if params is None else Tuning.read(params)
    except ValueError as error:
        raise ParametersError(f"{params}: expected the JSON that `tune` writes: {error}") from error


def _given(asked: Asked) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if value is not None}


def chosen_protocol(ratings: Ratings, protocol: ProtocolOption) -> SplitProtocol:
    """The protocol that an option means for these ratings."""
    from training.experiments.experiment import production_protocol

    return production_protocol(ratings) if protocol is ProtocolOption.AUTO else SplitProtocol(protocol)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    from pydantic import ValidationError

    try:
        content = dict(json.loads(path.read_text(encoding="utf-8")))
        if not {"als", "ranker"} & set(content):
            raise ValueError("it has neither als nor ranker")  # noqa: TRY301  # as what json raises
        found = {stage: dict(content[stage]) for stage in ("als", "ranker") if stage in content}
    except (KeyError, TypeError, ValueError) as error:
        raise ParametersError(f"{path}: expected the JSON that `tune` writes: {error}") from error
    for stage, parameters in (("als", AlsParameters), ("ranker", RankerParameters)):
        types = get_type_hints(parameters)
        unknown = sorted(set(found.get(stage, {})) - set(types))
        if unknown:
            raise ParametersError(
                f"{path}: {stage} has no parameter {', '.join(unknown)}; there are {', '.join(sorted(types))}"
            )
        for name, value in found.get(stage, {}).items():
            try:
                found[stage][name] = _adapter(types[name], _LIMITS[stage].get(name)).validate_python(value)
            except ValidationError as error:
                (reason,) = error.errors()
                raise ParametersError(f"{path}: {stage}, {name}: {reason['msg']}") from error
    return found


def _adapter(kind: Any, limits: tuple[float, float] | None) -> "TypeAdapter[Any]":
    from pydantic import Field, TypeAdapter

    if limits is None:
        return TypeAdapter(kind)
    return TypeAdapter(Annotated[kind, Field(ge=limits[0], le=limits[1])])
