"""Options that several commands share, and the recipe that they make."""

import dataclasses
import functools
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias, get_type_hints

import typer

from serving.features.sets import FeatureSet
from serving.fold_in import AlsParameters, Confidence
from serving.limits import DEFAULT_CANDIDATES, N_CANDIDATES
from serving.ratings import Ratings
from serving.sources import ALS_ALONE, SourceWeights
from training.data.movielens.dialect import COLUMN_KEYS, Dialect
from training.data.movielens.layouts import DATA_DIR_VARIABLE
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

    from serving.bundle.signature import SigningKey
    from training.data.datasets import DatasetFolder
    from training.engine.engine import Engine
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


class EngineName(StrEnum):
    """Where the big steps run."""

    LOCAL = "local"
    """On this machine."""
    SPARK = "spark"
    """On the cluster that `spark-submit` names."""

    def open(self, workers: int) -> "Engine":
        """The engine; a context. `workers` is for this machine.

        Raises:
            TrainingError: Spark or a Java runtime for it is missing, or it does not start.
        """
        if self is EngineName.LOCAL:
            from training.engine.local import LocalEngine

            return LocalEngine(workers)
        if find_spec("pyspark") is None:
            raise TrainingError("--engine spark needs the extra `spark`, which brings pyspark")
        from training.engine.spark import SparkEngine

        return SparkEngine()


EngineChoice: TypeAlias = Annotated[
    EngineName, typer.Option(envvar="MOVIEREC_ENGINE", help="Where the big steps run.")
]

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
            "early_stopping_rounds": (1, 10_000),
            "selection_seconds": (0.0, 1e6),
        },
    }
)
"""Least and greatest value of each number by stage, whether an option or a file of parameters gives it."""

_PANELS: Final = MappingProxyType({"als": "ALS", "ranker": "Ranker"})

_DATA_PANEL: Final = "Data as they come"


def _columns_of(text: str) -> dict[str, str]:
    keys = tuple(COLUMN_KEYS.values())
    columns: dict[str, str] = {}
    for part in text.split(","):
        key, sign, name = (piece.strip() for piece in part.partition("="))
        if key not in keys or not sign or not name or key in columns:
            raise typer.BadParameter(
                f"expected user_id=NAME,movie_id=NAME and so on, each once, found {part.strip()!r}; "
                f"there are {', '.join(keys)}"
            )
        columns[key] = name
    return columns


def _scale_of(text: str) -> tuple[float, float]:
    try:
        low, high = map(float, text.split(":"))
        if not -math.inf < low < high < math.inf:
            raise ValueError  # noqa: TRY301  # as what float raises
    except ValueError:
        raise typer.BadParameter(f"expected lowest and highest rating, as 1:10, found {text!r}") from None
    return low, high


def _read_separator(text: str | None) -> str | None:
    if text == "":
        raise typer.BadParameter("must not be empty")
    return text


BundleRoot: TypeAlias = Annotated[
    Path, typer.Option(help="Folder of the bundles, the pointer, preprocessed ratings and MLflow's store.")
]


@dataclass(frozen=True)
class DataOptions:
    """Which data set, how its files are written, and where goes what is made of it."""

    data_dir: Annotated[
        str | None,
        typer.Option(
            envvar=DATA_DIR_VARIABLE,
            help="Folder of a data set, or s3://BUCKET/PREFIX. Unset: data/ml-latest-small, else a download, "
            "else a sample.",
        ),
    ] = None
    columns: Annotated[
        Any,  # a mapping: typer asks no more of it than a parser
        typer.Option(
            parser=_columns_of,
            metavar="KEY=NAME,…",
            help="Other names of columns, as user_id=user,time=created_at. Keys: "
            f"{', '.join(COLUMN_KEYS.values())}.",
            rich_help_panel=_DATA_PANEL,
        ),
    ] = None
    rating_scale: Annotated[
        Any,  # a pair
        typer.Option(
            parser=_scale_of,
            metavar="LOW:HIGH",
            help="Lowest and highest rating, as 1:10: mapped to 0.5 and 5 stars. Unset: they are stars.",
            rich_help_panel=_DATA_PANEL,
        ),
    ] = None
    genre_separator: Annotated[
        str | None,
        typer.Option(
            callback=_read_separator, help='Between two genres. Unset: "|".', rich_help_panel=_DATA_PANEL
        ),
    ] = None
    no_times: Annotated[
        bool,
        typer.Option("--no-times", help="Read ratings without times.", rich_help_panel=_DATA_PANEL),
    ] = False
    bundle_root: BundleRoot = ROOT

    def resolve(self) -> "DatasetFolder":
        """Finds the data set, or gets one.

        Raises:
            DataError: there is none.
        """
        from training.data.datasets import resolve

        dialect = Dialect(
            columns=self.columns or {},
            rating_scale=self.rating_scale,
            genre_separator=self.genre_separator,
            has_times=not self.no_times,
        )
        return resolve(self.data_dir, dialect)


DatasetTag: TypeAlias = Annotated[
    str | None, typer.Option(help="Name of the data and their state. Unset: name and hash of the ratings.")
]
Threads: TypeAlias = Annotated[
    int, typer.Option(min=1, max=256, help="Of ALS and CatBoost. Another number, another bundle.")
]
ProtocolChoice: TypeAlias = Annotated[ProtocolOption, typer.Option(help="How the future is cut off.")]
Features: TypeAlias = Annotated[
    FeatureSet | None,
    typer.Option(
        help="What the ranker sees. Unset: those groups of the extended set that pay on a validation part."
    ),
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


def _signing_key(file: str) -> "SigningKey":
    from serving.bundle.signature import KeyFileError, SigningKey

    try:
        return SigningKey.read(Path(file))
    except KeyFileError as error:
        raise typer.BadParameter(str(error)) from error


SigningKeyFile: TypeAlias = Annotated[
    Any,  # a key: typer asks no more of it than a parser
    typer.Option(
        envvar="MOVIEREC_SIGNING_KEY_FILE",
        help="Private Ed25519 key in PEM that signs the bundle. Unset: nobody does.",
        metavar="FILE",
        parser=_signing_key,
    ),
]


@dataclass(frozen=True)
class JobOptions(DataOptions):
    """What each job asks whose run is recorded."""

    sample: Annotated[
        bool,
        typer.Option(
            "--sample",
            help="A tenth of the users, idle and active alike; what is made goes to `sample` below the root.",
        ),
    ] = False
    dataset_tag: DatasetTag = None
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="Of every random choice: equal seeds, equal bundles.")
    ] = 0
    tracking_uri: TrackingUri = None

    @property
    def output_root(self) -> Path:
        """Where goes what is made: of a sample into a folder of its own."""
        from training.data.preparation import SAMPLE_FOLDER

        return self.bundle_root / SAMPLE_FOLDER if self.sample else self.bundle_root


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
            "λ. Unset: chosen on a validation part, but for the preset's in build-similarity and with "
            "`--preset reference`.",
        ),
    ] = None
    als_alpha: Annotated[float | None, _parameter("als", "alpha", f"α of the confidence. {_PRESETS}")] = None
    als_confidence_mode: Annotated[
        Confidence | None,
        typer.Option(help=f"How ratings become confidence. {_PRESETS}", rich_help_panel=_PANELS["als"]),
    ] = None

    @property
    def asked(self) -> "Asked":
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
    def asked(self) -> "Asked":
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


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Lets a command take groups of options: of a parameter that is a dataclass, each field is an option.

    A field that is a dataclass is a group in turn.
    """
    signature = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def run(**options: Any) -> None:
        command(**_grouped(signature, options))

    run.__annotations__ = {}  # typer would take those of the command
    run.__signature__ = signature.replace(parameters=_flat(signature))  # type: ignore[attr-defined]
    return run


def _flat(signature: inspect.Signature) -> list[inspect.Parameter]:
    flat = []
    for parameter in signature.parameters.values():
        group = _group(parameter.annotation)
        flat += [parameter.replace(kind=parameter.KEYWORD_ONLY)] if group is None else _flat(group)
    return flat


def _grouped(signature: inspect.Signature, options: Mapping[str, Any]) -> dict[str, Any]:
    grouped = {}
    for name, parameter in signature.parameters.items():
        group = _group(parameter.annotation)
        grouped[name] = options[name] if group is None else parameter.annotation(**_grouped(group, options))
    return grouped


def _group(annotation: Any) -> inspect.Signature | None:
    is_group = isinstance(annotation, type) and dataclasses.is_dataclass(annotation)
    return inspect.signature(annotation, eval_str=True) if is_group else None


class ParametersError(TrainingError):
    """A file of parameters that cannot be used."""


Asked: TypeAlias = Mapping[str, Any]
"""Parameters by name; None: not asked for, and the preset's is taken."""


def regularization_is_open(options: AlsOptions, found: Asked = MappingProxyType({})) -> bool:
    """Whether λ of ALS is to be chosen: nobody asked for one, nor for the preset of another project."""
    given = {**found, **_given(options.asked)}
    return options.preset is Preset.DEFAULT and "regularization" not in given


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
        found = _read(self.params) if self.params is not None else {}
        features = self.features or FeatureSet.EXTENDED
        if not ratings.is_timed and features is FeatureSet.EXTENDED:
            features = FeatureSet.UNTIMED
        untimed = FeatureSet.UNTIMED.groups
        groups = tuple(group for group in features.groups if ratings.is_timed or group in untimed)
        return Recipe(
            als=als_of_options(self.als, found.get("als", {})),
            ranker=replace(
                default_ranker(len(ratings)), **{**found.get("ranker", {}), **_given(self.ranker.asked)}
            ),
            feature_groups=groups,
            choose_features=self.features is None,
            protocol=chosen_protocol(ratings, protocol),
            seed=seed,
            threads=self.threads,
            choose_regularization=regularization_is_open(self.als, found.get("als", {})),
            sources=self.source_weights or ALS_ALONE,
            choose_sources=self.source_weights is None and self.als.preset is Preset.DEFAULT,
            n_candidates=self.n_candidates,
        )

    def tuning(self) -> "Tuning | None":
        """The search behind the file of parameters, if there was one.

        Raises:
            ParametersError: the file holds something else.
        """
        from training.experiments.studies import Tuning

        try:
            return None if self.params is None else Tuning.read(self.params)
        except ValueError as error:
            raise ParametersError(f"{self.params}: expected the JSON that `tune` writes: {error}") from error


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
