"""Options of models, and the recipe that they and a file of parameters make."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias, get_type_hints

import typer

from serving.features.sets import FeatureSet
from serving.fold_in import AlsParameters, Confidence
from serving.limits import DEFAULT_CANDIDATES, N_CANDIDATES
from serving.ratings import Ratings
from serving.sources import ALS_ALONE, SourceWeights
from training.cli.options import Features, ProtocolOption, Threads
from training.errors import TrainingError
from training.evaluation.splits import SplitProtocol
from training.models.recipe import (
    DEFAULT_PARAMETERS,
    REFERENCE_PARAMETERS,
    Loss,
    RankerParameters,
    Recipe,
    default_ranker,
)

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from training.experiments.studies import Tuning


class Preset(StrEnum):
    """Parameters of ALS."""

    DEFAULT = "default"
    """Likes weigh; regularised for the size of the data set."""
    REFERENCE = "reference"
    """The reference's, for comparison."""


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
            "early_stopping_rounds": (1, 10_000),
            "selection_seconds": (0.0, 1e6),
        },
    }
)
"""Least and greatest value of each number by stage, whether an option or a file of parameters gives it."""

_PANELS: Final = MappingProxyType({"als": "ALS", "ranker": "Ranker"})

Asked: TypeAlias = Mapping[str, Any]
"""Parameters by name; None: not asked for, and the preset's is taken."""


def _parameter(stage: str, name: str, help_text: str) -> Any:
    low, high = _LIMITS[stage][name]
    return typer.Option(help=help_text, rich_help_panel=_PANELS[stage], min=low, max=high)


_PRESETS: Final = "Unset: the preset's."


@dataclass(frozen=True)
class AlsOptions:
    """Parameters of ALS; None: not asked for, and the preset's is taken."""

    preset: Annotated[Preset, typer.Option(help="Parameters of ALS.", rich_help_panel=_PANELS["als"])] = (
        Preset.DEFAULT
    )
    als_factors: Annotated[int | None, _parameter("als", "factors", f"Length of a vector. {_PRESETS}")] = None
    als_iterations: Annotated[int | None, _parameter("als", "iterations", f"Alternations. {_PRESETS}")] = None
    als_regularization: Annotated[
        float | None,
        _parameter(
            "als",
            "regularization",
            "λ. Unset: chosen on a validation part; build-similarity and `--preset reference` take that of "
            "the preset.",
        ),
    ] = None
    als_alpha: Annotated[float | None, _parameter("als", "alpha", f"α of the confidence. {_PRESETS}")] = None
    als_confidence_mode: Annotated[
        Confidence | None,
        typer.Option(help=f"How ratings become confidence. {_PRESETS}", rich_help_panel=_PANELS["als"]),
    ] = None

    @property
    def asked(self) -> Asked:
        """What was asked for, by the name of the parameter in `AlsParameters`."""
        return {
            "factors": self.als_factors,
            "iterations": self.als_iterations,
            "regularization": self.als_regularization,
            "alpha": self.als_alpha,
            "confidence": self.als_confidence_mode,
        }


@dataclass(frozen=True)
class RankerOptions:
    """Parameters of the ranker; None: not asked for."""

    ranker_iterations: Annotated[
        int | None,
        _parameter(
            "ranker",
            "iterations",
            "Trees at the most: how many is chosen on a validation part. Unset: 1,200.",
        ),
    ] = None
    ranker_learning_rate: Annotated[float | None, _parameter("ranker", "learning_rate", "Unset: 0.1.")] = None
    ranker_depth: Annotated[int | None, _parameter("ranker", "depth", "Of a tree. Unset: 4.")] = None
    ranker_loss: Annotated[
        Loss | None,
        typer.Option(
            help="Unset: Logloss, and YetiRank where it is better and there are seconds to try it.",
            rich_help_panel=_PANELS["ranker"],
        ),
    ] = None
    early_stopping_rounds: Annotated[
        int | None,
        _parameter(
            "ranker",
            "early_stopping_rounds",
            "Trees without a better nDCG@10 of the validation part that end a fit. Unset: none does.",
        ),
    ] = None
    relevance_threshold: Annotated[
        float | None,
        _parameter("ranker", "relevance_threshold", "Stars from which a label is positive. Unset: 4."),
    ] = None
    negatives: Annotated[
        int | None, _parameter("ranker", "negatives", "Unliked candidates kept per group. Unset: 25.")
    ] = None
    max_ranker_users: Annotated[
        int | None, _parameter("ranker", "max_users", "Groups at the most. Unset: 10,000.")
    ] = None
    selection_seconds: Annotated[
        float | None,
        _parameter(
            "ranker",
            "selection_seconds",
            "Processor seconds that trying groups of features and YetiRank may take, estimated from the "
            "size of the data. Unset: 30 to 300, by the number of ratings.",
        ),
    ] = None

    @property
    def asked(self) -> Asked:
        """What was asked for, by the name of the parameter in `RankerParameters`."""
        return {
            "iterations": self.ranker_iterations,
            "learning_rate": self.ranker_learning_rate,
            "depth": self.ranker_depth,
            "only_loss": self.ranker_loss,
            "early_stopping_rounds": self.early_stopping_rounds,
            "relevance_threshold": self.relevance_threshold,
            "negatives": self.negatives,
            "max_users": self.max_ranker_users,
            "selection_seconds": self.selection_seconds,
        }


def _weights_of(text: str) -> SourceWeights:
    try:
        return SourceWeights(*map(float, text.split(",")))
    except (TypeError, ValueError):
        raise typer.BadParameter(
            "expected weights of ALS, transitions and popularity, none negative and one of them positive, "
            f"as 1,0.5,0.25, found {text!r}"
        ) from None


SourceWeightsOption: TypeAlias = Annotated[
    Any,  # weights, or None
    typer.Option(
        parser=_weights_of,
        metavar="ALS,TRANSITIONS,POPULARITY",
        help="Weights of the sources of candidates; 1,0,0 is ALS alone. Unset: chosen on a validation part, "
        "and with them the history from which on users get more than what is popular.",
    ),
]
NCandidates: TypeAlias = Annotated[
    int,
    typer.Option(
        min=int(N_CANDIDATES.low),
        max=int(N_CANDIDATES.high),
        help="Movies that stage one hands to stage two for a user, in training and in serving.",
    ),
]


class ParametersError(TrainingError):
    """A file of parameters that cannot be used."""


def als_of_options(options: AlsOptions, found: Asked = MappingProxyType({})) -> AlsParameters:
    """Parameters of ALS: the preset, but for what was `found` in a file and what was asked for."""
    is_reference = options.preset is Preset.REFERENCE
    chosen = REFERENCE_PARAMETERS if is_reference else DEFAULT_PARAMETERS
    return replace(chosen, **{**found, **_given(options.asked)})


@dataclass(frozen=True)
class RecipeOptions:
    """What both stages are trained with."""

    params: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Parameters that `tune` found; options win."),
    ] = None
    als: AlsOptions = AlsOptions()
    ranker: RankerOptions = RankerOptions()
    n_candidates: NCandidates = DEFAULT_CANDIDATES
    source_weights: SourceWeightsOption = None
    features: Features = None
    threads: Threads = 2

    def recipe(
        self, ratings: Ratings, protocol: ProtocolOption = ProtocolOption.AUTO, *, seed: int = 0
    ) -> Recipe:
        """The recipe: the preset, then the file, then single parameters.

        Ratings without times have no features of time.

        Raises:
            ParametersError: the file holds something else than parameters; or the protocol is `time` or
                transitions weigh something, and the ratings have no times.
        """
        if self.source_weights is not None and self.source_weights.transitions > 0 and not ratings.is_timed:
            raise ParametersError(
                "--source-weights: transitions need times, and these ratings have none: give them 0"
            )
        found, _ = self._file
        als_found, is_default = found.get("als", {}), self.als.preset is Preset.DEFAULT
        als_given = {**als_found, **_given(self.als.asked)}
        features = self.features or FeatureSet.EXTENDED
        if not ratings.is_timed and features is FeatureSet.EXTENDED:
            features = FeatureSet.UNTIMED
        untimed = FeatureSet.UNTIMED.groups
        groups = tuple(group for group in features.groups if ratings.is_timed or group in untimed)
        return Recipe(
            als=als_of_options(self.als, als_found),
            ranker=replace(
                default_ranker(len(ratings)), **{**found.get("ranker", {}), **_given(self.ranker.asked)}
            ),
            feature_groups=groups,
            choose_features=self.features is None,
            protocol=chosen_protocol(ratings, protocol),
            seed=seed,
            threads=self.threads,
            choose_regularization=is_default and "regularization" not in als_given,
            sources=self.source_weights or ALS_ALONE,
            choose_sources=self.source_weights is None and is_default,
            n_candidates=self.n_candidates,
        )

    def tuning(self) -> "Tuning | None":
        """The search behind the file of parameters, if there was one.

        Raises:
            ParametersError: the file holds something else.
        """
        return self._file[1]

    @cached_property
    def _file(self) -> "tuple[Mapping[str, Asked], Tuning | None]":
        return ({}, None) if self.params is None else _read(self.params)


def _given(asked: Asked) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if value is not None}


def chosen_protocol(ratings: Ratings, protocol: ProtocolOption) -> SplitProtocol:
    """The protocol that an option means for these ratings.

    Raises:
        ParametersError: it is `time`, and the ratings have none.
    """
    from training.experiments.experiment import production_protocol

    if protocol is ProtocolOption.TIME and not ratings.is_timed:
        raise ParametersError("--protocol time needs times, and these ratings have none: take user")
    return production_protocol(ratings) if protocol is ProtocolOption.AUTO else SplitProtocol(protocol)


def protocols(ratings: Ratings, protocol: SplitProtocol | None) -> Sequence[SplitProtocol]:
    """The protocols to measure under: the one asked for, else both, where the ratings have times.

    Raises:
        ParametersError: `time` is asked for, and the ratings have none.
    """
    if protocol is not None:
        return [chosen_protocol(ratings, ProtocolOption(protocol))]
    return list(SplitProtocol) if ratings.is_timed else [SplitProtocol.USER]


def _read(path: Path) -> "tuple[Mapping[str, Asked], Tuning | None]":
    """Parameters by stage, als and ranker, and the search that found them; None: a person wrote the file."""
    from pydantic import ValidationError

    from training.experiments.studies import Tuning

    try:
        content = dict(json.loads(path.read_text(encoding="utf-8")))
        tuning = Tuning.of(content)
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
    return found, tuning


def _adapter(kind: Any, limits: tuple[float, float] | None) -> "TypeAdapter[Any]":
    from pydantic import Field, TypeAdapter

    if limits is None:
        return TypeAdapter(kind)
    return TypeAdapter(Annotated[kind, Field(ge=limits[0], le=limits[1])])
