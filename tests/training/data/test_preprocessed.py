"""Parquet that is written once, read back to the bit, and never trusted when something changed."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from training.data import movielens, preprocessed
from training.data.datasets import DatasetFolder
from training.data.preprocessed import Preprocessed, preprocess

RATINGS = (
    "userId,movieId,rating,timestamp\n7,20,4.0,100\n7,10,3.5,50\n3,20,0.5,70\n3,10,5.0,70\n3,10,1.0,60\n"
)
MOVIES = 'movieId,title,genres\n20,"Matrix, The (1999)",Action|Sci-Fi\n10,Babylon 5,(no genres listed)\n'


@pytest.fixture
def dataset(tmp_path: Path) -> DatasetFolder:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "ratings.csv").write_text(RATINGS)
    (folder / "movies.csv").write_text(MOVIES)
    return DatasetFolder("tiny", folder, "")


def assert_same(one: Preprocessed, other: Preprocessed) -> None:
    assert one.clean.digest == other.clean.digest
    assert one.clean.counts == other.clean.counts
    for name in ("indptr", "movie_rows", "values", "times"):
        ours, theirs = getattr(one.clean.ratings, name), getattr(other.clean.ratings, name)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(one.clean.ratings.users.ids, other.clean.ratings.users.ids)
    assert one.table.titles == other.table.titles == ("Babylon 5", "The Matrix")
    for name in ("title_lengths", "tmdb_ids"):
        np.testing.assert_array_equal(getattr(one.table, name), getattr(other.table, name))
    for name in ("years", "genre_bits"):
        ours, theirs = getattr(one.table.movies, name), getattr(other.table.movies, name)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_the_second_time_reads_what_the_first_wrote(
    dataset: DatasetFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = preprocess(dataset, tmp_path)
    monkeypatch.setattr(preprocessed, "read_data_set", None)  # not called again
    second = preprocess(dataset, tmp_path)
    assert (first.reused, second.reused) == (False, True)
    assert first.clean.counts.repeated == 1
    assert_same(first, second)


def test_another_input_is_read_anew_and_replaces_the_old(dataset: DatasetFolder, tmp_path: Path) -> None:
    first = preprocess(dataset, tmp_path)
    with (dataset.folder / "ratings.csv").open("a") as file:
        file.write("8,20,4.0,100\n")
    second = preprocess(dataset, tmp_path)
    assert not second.reused
    assert second.clean.counts.kept == first.clean.counts.kept + 1
    assert [path.name for path in second.folder.parent.iterdir()] == [second.folder.name]


def test_links_that_appear_count_as_an_input(dataset: DatasetFolder, tmp_path: Path) -> None:
    preprocess(dataset, tmp_path)
    (dataset.folder / "links.csv").write_text("movieId,imdbId,tmdbId\n20,1,603\n")
    again = preprocess(dataset, tmp_path)
    assert not again.reused
    assert again.table.tmdb_ids.tolist() == [0, 603]


@pytest.mark.parametrize("name", ["ratings.parquet", "movies.parquet", "summary.json", "changed ratings"])
def test_what_is_damaged_is_written_again(dataset: DatasetFolder, tmp_path: Path, name: str) -> None:
    first = preprocess(dataset, tmp_path)
    if name == "changed ratings":
        frame = preprocessed.ratings_frame(first.clean.ratings, first.table.movies.ids)
        frame.assign(rating=np.float32(3.0)).to_parquet(first.folder / "ratings.parquet", index=False)
    else:
        whole = (first.folder / name).read_bytes()
        (first.folder / name).write_bytes(whole[: len(whole) // 2])
    again = preprocess(dataset, tmp_path)
    assert not again.reused
    assert_same(first, again)
    assert preprocess(dataset, tmp_path).reused


def test_what_a_killed_one_left_is_removed(
    dataset: DatasetFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the next one has nothing to write, as the data are as they were."""
    first = preprocess(dataset, tmp_path)
    with (dataset.folder / "ratings.csv").open("a") as file:
        file.write("8,20,4.0,100\n")
    with monkeypatch.context() as patch:
        patch.setattr(preprocessed, "ratings_frame", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            preprocess(dataset, tmp_path)
    assert len(list(first.folder.parent.iterdir())) == 2
    (dataset.folder / "ratings.csv").write_text(RATINGS)
    assert preprocess(dataset, tmp_path).reused
    assert list(first.folder.parent.iterdir()) == [first.folder]


@pytest.mark.parametrize("name", ["cleaning", "rules", "titles", "genres"])
def test_another_version_of_what_cleans_reads_anew(
    dataset: DatasetFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Or of the catalogue's list of genres, which are in the parquet file as bits."""
    preprocess(dataset, tmp_path)
    changed = tmp_path / "movielens"
    shutil.copytree(Path(movielens.__file__).parent, changed)
    with (changed / f"{name}.py").open("a") as module:
        module.write("# changed")
    what, file = ("catalogue", "genres.py") if name == "genres" else ("movielens", "__init__.py")
    monkeypatch.setattr(preprocessed, what, SimpleNamespace(__file__=str(changed / file)))
    assert not preprocess(dataset, tmp_path).reused
