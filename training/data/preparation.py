"""From options to ratings that are ready to be trained on."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from training.data.datasets import DatasetFolder
from training.data.movielens.cleaning import CleanRatings, ratings_digest
from training.data.movielens.movies import MovieTable
from training.data.preprocessed import preprocess
from training.data.user_sample import active_and_idle
from training.progress import Progress

SAMPLE_FOLDER: Final = "sample"
"""Below a root: bundles of a tenth of the users must not take the place of those of all."""


@dataclass(frozen=True)
class Prepared:
    """What a training job starts from."""

    table: MovieTable
    clean: CleanRatings
    dataset_tag: str
    source: str
    """Where the data set came from, in words."""
    inputs: str
    """Name of the preprocessed data: data set, and hash of its files."""


def prepare(
    dataset: DatasetFolder,
    root: Path,
    *,
    sample: bool,
    dataset_tag: str | None,
    progress: Progress,
) -> Prepared:
    """Cleans the data set or reads what was cleaned before, and says so.

    Raises:
        DataError: it cannot be used.
    """
    console = progress.console
    console.print(f"Data set: {dataset.source}")
    with progress.step("Reading and checking ratings"):
        found = preprocess(dataset, root)
    clean, name = found.clean, dataset.name
    console.print(f"  {'unchanged, read from' if found.reused else 'written to'} {found.folder}")
    if sample:
        ratings = active_and_idle(clean.ratings)
        digest = ratings_digest(ratings, found.table.movies.ids)
        clean, name = replace(clean, ratings=ratings, digest=digest), f"{name}-{SAMPLE_FOLDER}"
    tag = dataset_tag or clean.tag(name)
    console.print(f"{tag}: {len(clean.ratings):,} ratings, {len(clean.ratings.users):,} users")
    if clean.counts.kept < clean.counts.read:
        console.print(f"  dropped: {clean.counts.dropped}")
    if not clean.ratings.is_timed:
        console.print("  without times: no features of time or order, and the protocol is 'user'")
    return Prepared(found.table, clean, tag, dataset.source, found.folder.name)
