"""Options that several commands share."""

import math
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer

from serving.features.sets import FeatureSet
from training.data.movielens.dialect import COLUMN_KEYS, Dialect
from training.data.movielens.layouts import DATA_DIR_VARIABLE
from training.errors import TrainingError

if TYPE_CHECKING:
    from serving.bundle.signature import SigningKey
    from training.data.datasets import DatasetFolder
    from training.engine.engine import Engine


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
    int,
    typer.Option(
        min=1,
        max=256,
        help="Of CatBoost, ALS and links. Another number, another bundle.",
    ),
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
        return require_tracking_uri(uri)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


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
