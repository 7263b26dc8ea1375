"""Options of the commands: the reference's parameters under their names, and data as they come."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.main import get_command
from typer.testing import Result

from serving.bundle.catalogue import read_movies
from serving.bundle.store import BundleStore
from serving.features.sets import FeatureGroups, FeatureSet, groups_of_names
from tests.training.cli.test_commands import assert_said_in_words, run, write_tastes
from tests.training.small import tastes
from training.cli.options import ProtocolOption
from training.cli.recipe_options import RecipeOptions
from training.cli.train import app

ALS = {"--als-factors", "--als-iterations", "--als-regularization", "--als-alpha", "--als-confidence-mode"}
RANKER = {
    *("--ranker-iterations", "--ranker-learning-rate", "--ranker-depth", "--ranker-loss"),
    *("--early-stopping-rounds", "--max-ranker-users", "--selection-seconds"),
}
DATA = {"--data-dir", "--columns", "--rating-scale", "--genre-separator", "--no-times"}
BOTH = ALS | RANKER | {"--n-candidates", "--dataset-tag"}


def options_of(command: str) -> set[str]:
    app_of_all: Any = get_command(app)
    return {name for option in app_of_all.commands[command].params for name in option.opts}


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("train", BOTH),
        ("train-ranker", BOTH),
        ("evaluate", BOTH),
        ("train-als", ALS | {"--n-candidates", "--dataset-tag"}),
        *((name, set()) for name in ("tune", "preprocess", "extract-movies", "train-popularity", "train-cf")),
        ("build-similarity", ALS),
    ],
)
def test_commands_know_the_options_of_data_and_models(command: str, expected: set[str]) -> None:
    assert expected | DATA <= options_of(command)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--columns=user=x", "expected user_id=NAME"),
        ("--columns=user_id", "found 'user_id'"),
        ("--columns=user_id=a,user_id=b", "each once"),
        ("--columns=user_id=", "found 'user_id='"),
        ("--rating-scale=10:1", "found '10:1'"),
        ("--rating-scale=10", "expected lowest and highest rating, as 1:10"),
        ("--rating-scale=0:inf", "found '0:inf'"),
        ("--rating-scale=nan:5", "found 'nan:5'"),
        ("--genre-separator=", "must not be empty"),
        ("--n-candidates=99", "greater than or equal to 100"),
        ("--ranker-loss=Huber", "'Huber' is not one of"),
        ("--preset=best", "'best' is not one of"),
        ("--protocol=item", "'item' is not one of"),
        ("--signing-key=/nowhere/key.pem", "'--signing-key'"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_work(tmp_path: Path, option: str, text: str) -> None:
    result = run("train", option, "--data-dir", tmp_path, "--bundle-root", tmp_path / "bundles")
    assert result.exit_code == 2
    assert text in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "bundles").exists()


def foreign(folder: Path) -> tuple[str | Path, ...]:
    """Tastes as another site exports them, with the options that read them."""
    write_tastes(folder)
    header, *lines = (folder / "ratings.csv").read_text().split()
    assert header == "userId,movieId,rating,timestamp"
    rows = [line.split(",") for line in lines]
    ratings = [f"{movie},{user},{2 * float(value):g}" for user, movie, value, _ in rows]
    (folder / "ratings.csv").write_text("\n".join(["item,user,score", *ratings, ""]))
    movies = (folder / "movies.csv").read_text().replace("movieId,title,genres", "item,name,tags")
    (folder / "movies.csv").write_text(movies.replace(",Drama", ',"Family,Biography"'))
    columns = "user_id=user,movie_id=item,rating=score,title=name,genres=tags"
    read = ("--columns", columns, "--rating-scale", "1:10", "--genre-separator", ",", "--no-times")
    return ("--data-dir", folder, *read)


def test_an_export_of_another_site_is_trained_and_served(
    root: Path, no_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    options = (*foreign(no_data), "--bundle-root", root)
    job = run(
        "train", *options, "--threads", "1", "--ranker-iterations", "5", "--als-factors", "8", "--force"
    )
    assert job.exit_code == 0, job.output
    assert "without times: no features of time or order, and the protocol is 'user'" in job.output
    store = BundleStore(root)
    bundle_id = store.pointer().bundle_id
    manifest = store.manifest(bundle_id)
    assert manifest.recipe["protocol"] == "user"
    compact = ("user", "movie", "retrieval", "place")  # of those without times: so few users choose no other
    assert manifest.features.groups == compact
    assert {"genre_family", "genre_biography"} <= set(manifest.features.names)
    for name in ("candidate", "ranking", "similarity", "gateway"):
        assert read_movies(store.folder(bundle_id, name)).genres == (
            "(no genres listed)",
            "Biography",
            "Family",
        )


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        (None, FeatureSet.UNTIMED.groups),
        (FeatureSet.EXTENDED, FeatureSet.UNTIMED.groups),
        (FeatureSet.REFERENCE, groups_of_names(["user", "movie", "retrieval"])),
    ],
)
def test_without_times_there_are_all_features_that_need_none(
    features: FeatureSet | None, expected: FeatureGroups
) -> None:
    untimed = replace(tastes(), times=np.zeros(len(tastes()), np.int64))
    options = RecipeOptions(features=features)
    assert options.recipe(untimed, ProtocolOption.AUTO).feature_groups == expected


@pytest.mark.parametrize(
    ("command", "words"),
    [
        *(
            (f"{name} --protocol time", "--protocol time needs times, and these ratings have none: take user")
            for name in ("train", "train-als", "evaluate")
        ),
        (
            "train --source-weights 1,0.5,0",
            "--source-weights: transitions need times, and these ratings have none: give them 0",
        ),
    ],
)
def test_ratings_without_times_have_neither_cuts_by_time_nor_transitions(
    root: Path, no_data: Path, command: str, words: str
) -> None:
    assert_said_in_words(run(*command.split(), *foreign(no_data), "--bundle-root", root), words)


def test_what_is_dropped_is_said(root: Path, no_data: Path) -> None:
    write_tastes(no_data)
    with (no_data / "ratings.csv").open("a") as file:
        file.write("1,99999,3.0,100\n1,99998,3.0,100\n")
    job = run("train-als", "--data-dir", no_data, "--bundle-root", root, "--protocol", "user")
    assert "dropped: 2 of movies that the movies file lacks" in job.stdout


def test_the_page_on_own_data_leads_from_an_export_to_ratings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs the page's script and then its command, on an export with ids that are no numbers."""
    page = (Path(__file__).parents[3] / "docs" / "your-data.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    films = [f'film-{n},Film {n} (1999),"Family,History"' for n in range(5)]
    views = [f"user-{n % 3},film-{n % 5},{1 + n % 10},2021-03-0{1 + n % 9}T05:06:07Z" for n in range(15)]
    Path("films.csv").write_text("\n".join(["item,name,tags", *films, ""]))
    Path("views.csv").write_text("\n".join(["user,item,score,created_at", *views, ""]))
    script, command = page.split("```python\n")[1].split("```")[0], page.split("```sh\n")[1].split("```")[0]
    exec(script, {})  # noqa: S102  # ours
    numbers = Path("items.csv").read_text()
    exec(script, {})  # noqa: S102  # again: numbers stay
    assert numbers == "number,id\n" + "".join(f"{n + 1},film-{n}\n" for n in range(5))
    assert Path("items.csv").read_text() == numbers
    words = shlex.split(command.replace("\\\n", " "))
    assert words[:3] == ["python", "-m", "training"]
    job = run(*words[3:], "--bundle-root", tmp_path / "bundles")
    assert job.exit_code == 0, job.output
    assert "read 15" in job.output
    assert "kept 15" in job.output


def test_warnings_are_sentences(tmp_path: Path, no_data: Path) -> None:
    write_tastes(no_data)
    with (no_data / "ratings.csv").open("a") as file:
        file.write("1,10,9.5,100\n")
    result: Result = run("preprocess", "--data-dir", no_data, "--bundle-root", tmp_path / "bundles")
    warning = "Warning: ratings dropped: ratings.csv line 1252: rating must be 0.5 to 5"
    assert any(line.startswith(warning) for line in result.stdout.splitlines())
    assert "{" not in result.stdout


def test_a_file_of_parameters_is_read_once(tmp_path: Path) -> None:
    """It may be a pipe, or be written anew while the job runs."""
    path = tmp_path / "params.json"
    path.write_text('{"als": {"factors": 9}}')
    options = RecipeOptions(params=path)
    assert options.recipe(tastes()).als.factors == 9
    path.unlink()
    assert options.tuning() is None
