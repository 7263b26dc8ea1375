"""Commands for data and for single models: each with an MLflow experiment of its own, none publishes."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Final

import typer

from serving.limits import DEFAULT_CANDIDATES
from serving.ratings import Ratings
from training.cli.console import failing_clearly, open_console
from training.cli.option_groups import with_option_groups
from training.cli.options import (
    DataOptions,
    JobOptions,
    ProtocolChoice,
    ProtocolOption,
    Threads,
)
from training.cli.preparation import prepared_data
from training.cli.recipe_options import (
    AlsOptions,
    NCandidates,
    RecipeOptions,
    als_of_options,
    chosen_protocol,
)
from training.lock import alone
from training.progress import Progress

if TYPE_CHECKING:
    from training.jobs.single_model import SingleModelJob

app = typer.Typer()

_EXPORTS: Final = "exports"


@app.command()
@with_option_groups
def preprocess(*, data: DataOptions) -> None:
    """Check and clean a data set, and write it as parquet; nothing to do if it is there and unchanged."""
    from training.data.preprocessed import preprocess as preprocess_data

    console = open_console()
    with failing_clearly(), alone(data.bundle_root):
        dataset = data.resolve()
        console.print(f"Data set: {dataset.source}")
        with Progress(console).step("Reading, checking and cleaning"):
            found = preprocess_data(dataset, data.bundle_root)
        counts = ", ".join(f"{name} {count:,}" for name, count in asdict(found.clean.counts).items())
        console.print(f"{found.clean.tag(dataset.name)}: {counts}")
        console.print(f"{'Unchanged in' if found.reused else 'Written to'} {found.folder}")


@app.command()
@with_option_groups
def extract_movies(*, data: DataOptions) -> None:
    """Write the catalogue for people, exports/movies.parquet: titles as shown, years, genres, ids at TMDB."""
    import numpy as np
    import pandas as pd

    from training.data.preprocessed import preprocess as preprocess_data

    console = open_console()
    with failing_clearly(), alone(data.bundle_root):
        dataset = data.resolve()
        table = preprocess_data(dataset, data.bundle_root).table
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
        path = _export(data.bundle_root, "movies.parquet", lambda aside: frame.to_parquet(aside, index=False))
        console.print(f"{len(frame):,} movies of {dataset.name} in {path}")


@app.command()
@with_option_groups
def train_popularity(
    *,
    options: JobOptions,
    min_ratings: Annotated[int, typer.Option(min=1, max=1_000_000, help="Movies with fewer score 0.")] = 1,
    rating_weight: Annotated[
        float, typer.Option(min=0.0, max=1_000.0, help="Of a movie's mean rating.")
    ] = 1.0,
    count_weight: Annotated[
        float, typer.Option(min=0.0, max=1_000.0, help="Of log(1 + number of ratings).")
    ] = 1.0,
    protocol: ProtocolChoice = ProtocolOption.AUTO,
) -> None:
    """Measure plain popularity: the baseline of all, and what unknown users get."""
    import pandas as pd

    from training.data.popularity import MovieStatistics
    from training.models.recommenders import PopularityRecommender

    with _single(options) as job:
        ratings, table = job.prepared.clean.ratings, job.prepared.table
        weights = {"rating_weight": rating_weight, "count_weight": count_weight}

        def fit(past: Ratings) -> PopularityRecommender:
            return PopularityRecommender.fit(past, table, min_ratings=min_ratings, **weights)

        metrics = job.measure(fit, chosen_protocol(ratings, protocol))
        statistics = MovieStatistics.of(ratings, len(table.movies.ids))
        frame = pd.DataFrame(
            {
                "movieId": table.movies.ids.ids,
                "popularity": fit(ratings).catalogue.popularity,
                "num_ratings": statistics.counts,
                "avg_rating": statistics.means,
            }
        )
        frame.to_parquet(job.folder / "popularity.parquet", index=False)
        parameters = {"seed": options.seed, "min_ratings": min_ratings, **weights}
        job.track("popularity_baseline", "popularity", parameters, metrics)


@app.command()
@with_option_groups
def train_cf(
    *,
    options: JobOptions,
    factors: Annotated[int, typer.Option(min=1, max=2_000, help="Rank of the factorisation.")] = 50,
    protocol: ProtocolChoice = ProtocolOption.AUTO,
) -> None:
    """Measure truncated SVD of the user-centred rating matrix: a baseline, never served."""
    import numpy as np

    from training.models.recommenders import SVDRecommender
    from training.models.svd import Svd

    with _single(options) as job:
        ratings, table = job.prepared.clean.ratings, job.prepared.table
        metrics = job.measure(
            lambda past: SVDRecommender.fit(past, table, n_factors=factors, seed=options.seed),
            chosen_protocol(ratings, protocol),
        )
        model = Svd.fit(ratings, len(table.movies.ids), n_factors=factors, seed=options.seed)
        ids = {"user_ids": ratings.users.ids, "movie_ids": table.movies.ids.ids}
        np.savez(job.folder / "svd.npz", allow_pickle=False, **ids, **vars(model))
        job.track("collaborative_filtering", "svd", {"factors": factors, "seed": options.seed}, metrics)


@app.command()
@with_option_groups
def train_als(
    *,
    options: JobOptions,
    als: AlsOptions,
    n_candidates: NCandidates = DEFAULT_CANDIDATES,
    protocol: ProtocolChoice = ProtocolOption.AUTO,
    threads: Threads = 2,
) -> None:
    """Measure implicit ALS, stage one, by itself."""
    import numpy as np

    from training.engine.local import LocalEngine
    from training.evaluation.splits import judged_split
    from training.experiments.regularization import best_regularization, choose_als_regularization
    from training.models.als import Als
    from training.models.job_context import JobContext
    from training.models.recommenders import ALSRecommender

    with _single(options) as job:
        ratings, table, engine = job.prepared.clean.ratings, job.prepared.table, LocalEngine(threads)
        recipe = RecipeOptions(als=als).recipe(ratings, protocol, seed=options.seed)
        parameters = recipe.als
        if recipe.choose_regularization:
            past = judged_split(ratings, recipe.protocol).train
            tried = choose_als_regularization(past, JobContext(table, recipe, job.progress, engine))
            parameters = replace(parameters, regularization=best_regularization(tried))
        metrics = job.measure(
            lambda past: ALSRecommender.fit(past, table, parameters, seed=options.seed, engine=engine),
            recipe.protocol,
            n_candidates,
        )
        model = Als.fit(ratings, len(table.movies.ids), parameters, seed=options.seed, engine=engine)
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
            asdict(parameters) | {"n_candidates": n_candidates, "seed": options.seed, "threads": threads},
            metrics,
        )


@app.command()
@with_option_groups
def build_similarity(*, options: JobOptions, als: AlsOptions, threads: Threads = 2) -> None:
    """Fit ALS on all ratings and write each movie's nearest to exports/similarity_index.parquet.

    Movies that nobody rated are near those with the same genres. A published bundle has its own index.
    """
    import numpy as np

    from training.data.popularity import MovieStatistics, popularity
    from training.engine.local import LocalEngine
    from training.models.als import Als
    from training.models.similarity import build_index
    from training.publish.exports import write_similarity_index

    with _single(options) as job:
        ratings, table = job.prepared.clean.ratings, job.prepared.table
        parameters = als_of_options(als)
        n_movies = len(table.movies.ids)
        with job.progress.step("ALS on all ratings", parameters.iterations) as advance:
            engine = LocalEngine(threads)
            model = Als.fit(ratings, n_movies, parameters, seed=options.seed, engine=engine, progress=advance)
        popular = popularity(MovieStatistics.of(ratings, n_movies))
        with job.progress.step("Similarity index", n_movies) as advance:
            neighbours = build_index(model.item_factors, table.movies, popular, advance, threads=threads)
        name = "similarity_index.parquet"
        write_similarity_index(job.folder / name, neighbours, table.movies.ids)
        path = _export(options.output_root, name, lambda aside: shutil.copyfile(job.folder / name, aside))
        metrics = {
            "movies": float(n_movies),
            "movies_by_factors": float(np.count_nonzero(np.any(model.item_factors, axis=1))),
            "movies_without_neighbours": float(np.count_nonzero((neighbours.movie_rows < 0).all(axis=1))),
        }
        by_factors = f"{metrics['movies_by_factors']:,.0f} of them by ALS factors"
        job.progress.console.print(f"{n_movies:,} movies, {by_factors}, in {path}")
        job.track("similarity_index", "similarity", asdict(parameters) | {"seed": options.seed}, metrics)


def _export(root: Path, name: str, write: Callable[[Path], object]) -> Path:
    """Has a file of `exports/` written aside, so that readers see the whole of it, or the one before."""
    path = root / _EXPORTS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{name}")
    write(aside)
    return aside.replace(path)


@contextmanager
def _single(options: JobOptions) -> "Iterator[SingleModelJob]":
    from training.jobs.single_model import SingleModelJob

    data = prepared_data(options, sample=options.sample, dataset_tag=options.dataset_tag)
    with data as (prepared, progress), TemporaryDirectory() as folder:
        yield SingleModelJob(
            progress,
            prepared,
            root=options.bundle_root,
            folder=Path(folder),
            sample=options.sample,
            tracking_uri=options.tracking_uri,
        )
