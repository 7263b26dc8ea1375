"""Commands for data and for single models: each with an MLflow experiment of its own, none publishes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from rich.console import Console

from serving.ratings import Ratings
from training.cli.console import failing_clearly, open_console
from training.cli.options import (
    ROOT,
    Alpha,
    AlsIterations,
    BundleRoot,
    ConfidenceMode,
    DataDir,
    DatasetTag,
    Factors,
    Preset,
    PresetOption,
    ProtocolChoice,
    ProtocolOption,
    Regularization,
    Sample,
    Seed,
    Threads,
    TrackingUri,
    als_of_options,
    chosen_protocol,
    regularization_is_open,
)
from training.data import datasets
from training.data.popularity import MovieStatistics, popularity
from training.data.preparation import Prepared, prepare
from training.data.preprocessed import preprocess as preprocess_data
from training.evaluation.splits import judged_split
from training.experiments.regularization import best_regularization, choose_als_regularization
from training.experiments.single import Fit, measure_single
from training.lock import alone
from training.models.als import Als
from training.models.recommenders import ALSRecommender, PopularityRecommender, SVDRecommender
from training.models.similarity import build_index
from training.models.svd import Svd
from training.progress import Progress
from training.publish.exports import write_similarity_index
from training.release.run_record import RunRecord
from training.release.tracking import track

app = typer.Typer()

_EXPORTS = "exports"


@app.command()
def preprocess(*, data_dir: DataDir = None, bundle_root: BundleRoot = ROOT) -> None:
    """Check and clean a data set, and write it as parquet; nothing to do if it is there and unchanged."""
    console = open_console()
    with failing_clearly(), alone(bundle_root):
        dataset = datasets.resolve(data_dir)
        console.print(f"Data set: {dataset.source}")
        with Progress(console).step("Reading, checking and cleaning"):
            found = preprocess_data(dataset, bundle_root)
        counts = ", ".join(f"{name} {count:,}" for name, count in asdict(found.clean.counts).items())
        console.print(f"{found.clean.tag(dataset.name)}: {counts}")
        console.print(f"{'Unchanged in' if found.reused else 'Written to'} {found.folder}")


@app.command()
def extract_movies(*, data_dir: DataDir = None, bundle_root: BundleRoot = ROOT) -> None:
    """Write the catalogue for people, exports/movies.parquet: titles as shown, years, genres, ids at TMDB."""
    console = open_console()
    with failing_clearly(), alone(bundle_root):
        dataset = datasets.resolve(data_dir)
        table = preprocess_data(dataset, bundle_root).table
        movies = table.movies
        frame = pd.DataFrame(
            {
                "movieId": movies.ids.ids,
                "title": table.titles,
                "year": pd.array(np.where(movies.years > 0, movies.years, np.nan), dtype="Int16"),
                "genres": [list(movies.genres_of(row)) for row in range(len(movies.ids))],
                "tmdbId": pd.array(np.where(table.tmdb_ids > 0, table.tmdb_ids, np.nan), dtype="Int32"),
            }
        )
        path = _exports(bundle_root) / "movies.parquet"
        frame.to_parquet(path, index=False)
        console.print(f"{len(frame):,} movies of {dataset.name} in {path}")


@app.command()
def train_popularity(
    *,
    data_dir: DataDir = None,
    bundle_root: BundleRoot = ROOT,
    sample: Sample = False,
    dataset_tag: DatasetTag = None,
    min_ratings: Annotated[int, typer.Option(min=1, max=1_000_000, help="Movies with fewer score 0.")] = 1,
    rating_weight: Annotated[
        float, typer.Option(min=0.0, max=1_000.0, help="Of a movie's mean rating.")
    ] = 1.0,
    count_weight: Annotated[
        float, typer.Option(min=0.0, max=1_000.0, help="Of log(1 + number of ratings).")
    ] = 1.0,
    protocol: ProtocolChoice = ProtocolOption.AUTO,
    seed: Seed = 0,
    tracking_uri: TrackingUri = None,
) -> None:
    """Measure plain popularity: the baseline of all, and what unknown users get."""
    with _single(data_dir, bundle_root, sample=sample, dataset_tag=dataset_tag) as job:
        ratings, table = job.prepared.clean.ratings, job.prepared.table
        weights = {"rating_weight": rating_weight, "count_weight": count_weight}

        def fit(past: Ratings) -> PopularityRecommender:
            return PopularityRecommender.fit(
                past,
                table,
                min_ratings=min_ratings,
                rating_weight=rating_weight,
                count_weight=count_weight,
            )

        metrics = job.measure(fit, protocol)
        statistics = MovieStatistics.of(ratings, len(table.movies.ids))
        frame = pd.DataFrame(
            {
                "movieId": table.movies.ids.ids,
                "popularity": popularity(statistics, min_ratings=min_ratings, **weights),
                "num_ratings": statistics.counts,
                "avg_rating": statistics.means,
            }
        )
        frame.to_parquet(job.folder / "popularity.parquet", index=False)
        parameters = {"min_ratings": min_ratings, "seed": seed, **weights}
        job.track("popularity_baseline", "popularity", parameters, metrics, tracking_uri)


@app.command()
def train_cf(
    *,
    data_dir: DataDir = None,
    bundle_root: BundleRoot = ROOT,
    sample: Sample = False,
    dataset_tag: DatasetTag = None,
    factors: Annotated[int, typer.Option(min=1, max=2_000, help="Rank of the factorisation.")] = 50,
    protocol: ProtocolChoice = ProtocolOption.AUTO,
    seed: Seed = 0,
    tracking_uri: TrackingUri = None,
) -> None:
    """Measure truncated SVD of the user-centred rating matrix: a baseline, never served."""
    with _single(data_dir, bundle_root, sample=sample, dataset_tag=dataset_tag) as job:
        ratings, table = job.prepared.clean.ratings, job.prepared.table
        metrics = job.measure(
            lambda past: SVDRecommender.fit(past, table, n_factors=factors, seed=seed), protocol
        )
        model = Svd.fit(ratings, len(table.movies.ids), n_factors=factors, seed=seed)
        np.savez(job.folder / "svd.npz", allow_pickle=False, **vars(model))
        job.track("collaborative_filtering", "svd", {"factors": factors, "seed": seed}, metrics, tracking_uri)


@app.command()
def train_als(
    *,
    data_dir: DataDir = None,
    bundle_root: BundleRoot = ROOT,
    sample: Sample = False,
    dataset_tag: DatasetTag = None,
    preset: PresetOption = Preset.DEFAULT,
    factors: Factors = None,
    iterations: AlsIterations = None,
    regularization: Regularization = None,
    alpha: Alpha = None,
    confidence_mode: ConfidenceMode = None,
    protocol: ProtocolChoice = ProtocolOption.AUTO,
    seed: Seed = 0,
    threads: Threads = 2,
    tracking_uri: TrackingUri = None,
) -> None:
    """Measure implicit ALS, stage one, by itself."""
    asked = {
        "factors": factors,
        "iterations": iterations,
        "regularization": regularization,
        "alpha": alpha,
        "confidence": confidence_mode,
    }
    with _single(data_dir, bundle_root, sample=sample, dataset_tag=dataset_tag) as job:
        ratings, table = job.prepared.clean.ratings, job.prepared.table
        parameters = als_of_options(ratings, preset, asked)
        if regularization_is_open(preset, asked):
            cut = chosen_protocol(ratings, protocol)
            with job.progress.step("Regularization of ALS, on a validation part"):
                tried = choose_als_regularization(
                    judged_split(ratings, cut).past,
                    len(table.movies.ids),
                    parameters,
                    cut,
                    seed=seed,
                    threads=threads,
                )
            parameters = replace(parameters, regularization=best_regularization(tried))
        metrics = job.measure(
            lambda past: ALSRecommender.fit(past, table, parameters, seed=seed, threads=threads), protocol
        )
        model = Als.fit(ratings, len(table.movies.ids), parameters, seed=seed, threads=threads)
        np.savez(
            job.folder / "als.npz",
            allow_pickle=False,
            user_ids=ratings.users.ids,
            movie_ids=table.movies.ids.ids,
            user_factors=model.user_factors,
            item_factors=model.item_factors,
        )
        job.track(
            "als_candidate_generator",
            "als",
            asdict(parameters) | {"seed": seed, "threads": threads},
            metrics,
            tracking_uri,
        )


@app.command()
def build_similarity(
    *,
    data_dir: DataDir = None,
    bundle_root: BundleRoot = ROOT,
    sample: Sample = False,
    dataset_tag: DatasetTag = None,
    preset: PresetOption = Preset.DEFAULT,
    seed: Seed = 0,
    threads: Threads = 2,
    tracking_uri: TrackingUri = None,
) -> None:
    """Fit ALS on all ratings and write each movie's nearest to exports/similarity_index.parquet.

    Movies that nobody rated are near those with the same genres. A published bundle has its own index.
    """
    with _single(data_dir, bundle_root, sample=sample, dataset_tag=dataset_tag) as job:
        ratings, table = job.prepared.clean.ratings, job.prepared.table
        parameters = als_of_options(ratings, preset, {})
        n_movies = len(table.movies.ids)
        with job.progress.step("ALS on all ratings", parameters.iterations) as advance:
            model = Als.fit(ratings, n_movies, parameters, seed=seed, threads=threads, progress=advance)
        popular = popularity(MovieStatistics.of(ratings, n_movies))
        with job.progress.step("Similarity index", n_movies) as advance:
            neighbours = build_index(model.item_factors, table.movies, popular, advance)
        name = "similarity_index.parquet"
        for folder in (job.folder, _exports(job.root)):
            write_similarity_index(folder / name, neighbours, table.movies.ids)
        metrics = {
            "movies": float(n_movies),
            "movies_by_factors": float(np.count_nonzero(np.any(model.item_factors, axis=1))),
            "movies_without_neighbours": float(np.count_nonzero((neighbours.movie_rows < 0).all(axis=1))),
        }
        job.console.print(
            f"{n_movies:,} movies, {metrics['movies_by_factors']:,.0f} of them by ALS factors, in "
            f"{_exports(job.root) / name}",
        )
        job.track(
            "similarity_index", "similarity", asdict(parameters) | {"seed": seed}, metrics, tracking_uri
        )


def _exports(root: Path) -> Path:
    folder = root / _EXPORTS
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@dataclass(frozen=True)
class _Job:
    """What the commands for single models have in common."""

    console: Console
    progress: Progress
    prepared: Prepared
    root: Path
    folder: Path
    """For artefacts; gone when the job is over."""
    sample: bool

    def measure(self, fit: Fit, protocol: ProtocolOption) -> dict[str, float]:
        """Judges a model and shows the result."""
        ratings = self.prepared.clean.ratings
        chosen = chosen_protocol(ratings, protocol)
        metrics = measure_single(ratings, self.prepared.table, chosen, fit, self.progress)
        for part in ("val", "test"):
            shown = ", ".join(
                f"{name} {metrics[f'{part}_{name}']:.4f}"
                for name in ("ndcg_at_10", "recall_at_10", "coverage_at_10", "recall_at_300")
                if f"{part}_{name}" in metrics
            )
            self.console.print(f"{part}, protocol '{chosen}': {shown or 'nobody can be judged'}")
        return metrics

    def track(
        self,
        experiment: str,
        model: str,
        parameters: Mapping[str, str | int | float | bool],
        metrics: Mapping[str, float],
        tracking_uri: str | None,
    ) -> None:
        """Writes the run down, with all that lies in the folder."""
        record = RunRecord(
            experiment=experiment,
            name=f"{model} on {self.prepared.dataset_tag}",
            parameters={"dataset_tag": self.prepared.dataset_tag, **parameters},
            metrics=metrics,
            tags={
                "model": model,
                "dataset_tag": self.prepared.dataset_tag,
                "sample": str(self.sample).lower(),
            },
            artifacts=(self.folder,),
        )
        with self.progress.step("Recording the run in MLflow"):
            track(self.root, record, tracking_uri)


@contextmanager
def _single(data_dir: Path | None, root: Path, *, sample: bool, dataset_tag: str | None) -> Iterator[_Job]:
    console = open_console()
    progress = Progress(console)
    with failing_clearly(), alone(root), TemporaryDirectory() as folder:
        prepared = prepare(
            data_dir, root, sample=sample, dataset_tag=dataset_tag, console=console, progress=progress
        )
        yield _Job(console, progress, prepared, root, Path(folder), sample)
