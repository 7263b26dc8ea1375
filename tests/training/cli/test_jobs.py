"""The jobs on a tenth of the generated data set: what they write, and how they end when refused."""

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from pyarrow import parquet  # type: ignore[import-untyped]
from typer.testing import CliRunner, Result

from serving.bundle.store import BundleStore
from serving.ratings import Ratings
from tests.conftest import Trained
from tests.training.cli.test_commands import QUICK, write_tastes
from tests.training.release.candidate import holder_of
from training.cli.train import app
from training.experiments.studies import Study, Trial, Tuning
from training.experiments.tuning import Bounds
from training.jobs import train
from training.models.job_context import JobContext
from training.publish.gate import Evaluation, Verdict, pass_gate
from training.release import tracking
from training.release.local_store import local_store
from training.release.registry import CANDIDATE, Registry

SMALL = ("--sample", *QUICK)


@pytest.fixture
def few_data(tmp_path: Path) -> Path:
    """Folder of few ratings, which nobody leaves for a sample."""
    folder = tmp_path / "few"
    folder.mkdir()
    write_tastes(folder)
    return folder


@pytest.fixture
def run(generated: Path, root: Path) -> Any:
    """Runs a command on the generated data, or others, in a folder with an empty MLflow store."""

    def invoke(*arguments: str, status: int = 0, data: Path = generated) -> Result:
        options = ("--data-dir", str(data), "--bundle-root", str(root))
        result = CliRunner().invoke(app, [*arguments, *options])
        assert result.exit_code == status, result.output
        return result

    return invoke


def runs(root: Path, experiment: str) -> list[Run]:
    client = MlflowClient(tracking_uri=local_store(root))
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return list(client.search_runs([found.experiment_id], order_by=["attributes.start_time ASC"]))


def artifacts(root: Path, run: Run, folder: str | None = None) -> list[str]:
    client = MlflowClient(tracking_uri=local_store(root))
    return [item.path for item in client.list_artifacts(run.info.run_id, folder)]


def test_preprocessing_is_skipped_the_second_time(run: Any, few_data: Path) -> None:
    assert "Written to" in run("preprocess", data=few_data).output
    assert "Unchanged in" in run("preprocess", data=few_data).output


def test_the_catalogue_for_people(run: Any, root: Path) -> None:
    run("extract-movies")
    frame = pd.read_parquet(root / "exports" / "movies.parquet")
    assert list(frame.columns) == ["movieId", "title", "year", "genres", "tmdbId"]
    assert frame["tmdbId"].isna().all()
    assert frame["year"].isna().sum() == 8
    assert sum(len(genres) == 0 for genres in frame["genres"]) == 8


def test_the_catalogue_stays_whole_where_a_second_one_fails(
    run: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_half_way(_frame: pd.DataFrame, path: Path, **_: Any) -> None:
        path.write_bytes(b"PAR1")
        raise OSError(errno.ENOSPC, "No space left on device")

    run("extract-movies")
    path = root / "exports" / "movies.parquet"
    before = path.read_bytes()
    monkeypatch.setattr(pd.DataFrame, "to_parquet", fail_half_way)
    run("extract-movies", status=1)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("command", "experiment", "parameters"),
    [
        ("train-popularity --min-ratings 2", "popularity_baseline", {"min_ratings": "2"}),
        ("train-cf --factors 4", "collaborative_filtering", {"factors": "4"}),
        (
            "train-als --als-factors 4 --als-iterations 2 --als-alpha 3 --als-confidence-mode log",
            "als_candidate_generator",
            {"factors": "4", "iterations": "2", "alpha": "3.0", "confidence": "log", "n_candidates": "300"},
        ),
        ("build-similarity --als-factors 4", "similarity_index", {"confidence": "likes"}),
    ],
)
def test_single_models_have_experiments_of_their_own(
    run: Any, root: Path, command: str, experiment: str, parameters: dict[str, str]
) -> None:
    run(*command.split(), "--sample", "--dataset-tag", "mine")
    (found,) = runs(root, experiment)
    assert {**parameters, "dataset_tag": "mine", "seed": "0"}.items() <= found.data.params.items()
    assert len(artifacts(root, found)) == 1
    assert all("@" not in name for name in found.data.metrics)
    if command.startswith("train"):
        expected = {
            f"{part}_{metric}_at_{k}"
            for part in ("val", "test")
            for metric in ("precision", "recall", "ndcg", "map", "coverage")
            for k in (5, 10, 20)
        }
        assert expected <= set(found.data.metrics)


def test_the_factors_of_svd_come_with_the_ids_of_their_rows(run: Any, root: Path, few_data: Path) -> None:
    run("train-cf", "--factors", "2", data=few_data)
    (found,) = runs(root, "collaborative_filtering")
    client = MlflowClient(tracking_uri=local_store(root))
    ratings = pd.read_csv(few_data / "ratings.csv")
    movies = pd.read_csv(few_data / "movies.csv")
    with np.load(client.download_artifacts(found.info.run_id, "svd.npz"), allow_pickle=False) as svd:
        assert svd["user_ids"].tolist() == sorted(set(ratings["userId"]))
        assert svd["movie_ids"].tolist() == sorted(movies["movieId"])
        assert svd["user_factors"].shape == (svd["user_ids"].size, 2)
        assert svd["item_factors"].shape == (svd["movie_ids"].size, 2)


def test_the_command_line_of_the_reference_runs(run: Any, root: Path, few_data: Path) -> None:
    run(
        *("train-ranker", "--force", "--threads", "1", "--dataset-tag", "T"),
        *("--als-factors", "128", "--als-confidence-mode", "log", "--ranker-iterations", "600"),
        *("--n-candidates", "300", "--max-ranker-users", "10000", "--ranker-learning-rate", "0.05"),
        *("--ranker-depth", "6", "--ranker-loss", "YetiRank", "--early-stopping-rounds", "50"),
        data=few_data,
    )
    store = BundleStore(root)
    manifest = store.manifest(store.pointer().bundle_id)
    assert (manifest.dataset_tag, manifest.n_candidates) == ("T", 300)
    asked = {
        "als_factors": 128,
        "als_confidence": "log",
        "ranker_iterations": 600,
        "n_candidates": 300,
        "ranker_max_users": 10_000,
        "ranker_learning_rate": 0.05,
        "ranker_depth": 6,
        "ranker_loss": "YetiRank",
        "ranker_only_loss": "YetiRank",
        "ranker_early_stopping_rounds": 50,
    }
    assert asked.items() <= manifest.recipe.items()
    (parent,) = (one for one in runs(root, "two_stage_ranker") if one.info.run_name == "two_stage on T")
    assert {name: str(value) for name, value in asked.items()}.items() <= parent.data.params.items()


def test_the_similarity_index_is_two_lists_a_movie(run: Any, root: Path) -> None:
    run("build-similarity", "--sample", "--preset", "reference", "--als-factors", "4")
    assert not (root / "exports").exists()  # that is for the index of everybody
    path = root / "sample" / "exports" / "similarity_index.parquet"
    schema = parquet.read_schema(path)
    assert schema.names == ["movieId", "similar_ids", "similarity_scores"]
    frame = pd.read_parquet(path)
    assert frame["similar_ids"].map(len).equals(frame["similarity_scores"].map(len))
    assert all(list(scores) == sorted(scores, reverse=True) for scores in frame["similarity_scores"])
    assert not any(movie in ids for movie, ids in zip(frame["movieId"], frame["similar_ids"], strict=True))


def test_the_two_stage_run_and_its_bundle(run: Any, root: Path) -> None:
    printed = run("train-ranker", *SMALL).output
    store = BundleStore(root / "sample")
    pointer = store.pointer()
    bundle = store.path(pointer.bundle_id)
    assert f"Published bundle {bundle.name} in " in printed
    for text in ("popularity", "SVD", "ALS", "two-stage", "paired 95 % interval", "seed 0: ranker"):
        assert text in printed
    exports = sorted(path.name for path in (bundle / "exports").iterdir())
    assert exports == [
        "feature_importances.csv",
        "item_features.parquet",
        "similarity_index.parquet",
        "training_summary.json",
        "user_features.parquet",
    ]
    assert not any(path.startswith(("exports", "reports")) for path in store.manifest(bundle.name).files)
    summary = json.loads((bundle / "exports" / "training_summary.json").read_text())
    assert summary["users"] == len(pd.read_parquet(bundle / "exports" / "user_features.parquet")) == 60
    assert Evaluation.read(bundle / "reports") is not None
    found = {one.info.run_name: one for one in runs(root, "two_stage_ranker")}
    parent = found.pop(f"two_stage on {summary['dataset_tag']}")
    assert parent.data.params["als_factors"] == "8"
    assert parent.data.params["ranker_depth"] == "3"
    assert parent.data.tags["bundle_id"] == bundle.name
    assert {"test_ndcg_at_10", "test_recall_at_300"} <= set(parent.data.metrics)
    assert set(exports) <= set(artifacts(root, parent))
    assert found["als"].data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert Registry(local_store(root)).aliased(CANDIDATE) is None  # a sample is nothing to serve
    reused = run("train", *SMALL, "--reuse").output
    assert f"Reusing bundle {bundle.name} in " in reused
    assert "Measuring" not in reused
    assert store.pointer() == pointer


def test_what_a_killed_job_did_not_record_is_recorded_by_one_that_reuses_its_bundle(
    run: Any, root: Path, few_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def be_killed(_root: Path) -> int:
        raise ZeroDivisionError

    options = ("train", "--force", *QUICK, "--reuse")
    with monkeypatch.context() as patch:
        patch.setattr(tracking, "write_records", be_killed)
        run(*options, data=few_data, status=1)
    bundle_id = BundleStore(root).pointer().bundle_id
    assert f"Reusing bundle {bundle_id}" in run(*options, data=few_data).output
    assert holder_of(CANDIDATE, Registry(local_store(root))).tags["bundle_id"] == bundle_id


def test_a_refusal_publishes_nothing_and_says_why(
    run: Any, root: Path, few_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **options: Any) -> tuple[Evaluation, Verdict]:
        evaluation, verdict = pass_gate(*arguments, **options)
        return evaluation, Verdict(("nDCG@10 is below popularity",), verdict.remark)

    monkeypatch.setattr(train, "pass_gate", refuse)
    options = (*QUICK, "--max-ranker-users", "40")
    result = run("train-ranker", *options, status=3, data=few_data)
    assert "Gate: refused: nDCG@10 is below popularity" in result.output
    assert "--force" in result.output
    assert not (root / "current").exists()
    assert runs(root, "two_stage_ranker")[0].data.tags["published"] == "false"
    forced = run("train-ranker", *options, "--force", data=few_data)
    assert "Gate: overridden: nDCG@10 is below popularity" in forced.output
    candidate = holder_of(CANDIDATE, Registry(local_store(root)))
    assert candidate.tags["bundle_id"] == BundleStore(root).pointer().bundle_id


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[Bounds]:
    """The bounds of each search that a command began; none is done."""
    begun = []

    def find_nothing(_ratings: Ratings, _job: JobContext, bounds: Bounds) -> dict[str, Study]:
        begun.append(bounds)
        return {"als": Study((Trial(0, {"factors": 8}, 0.1),))}

    monkeypatch.setattr("training.experiments.tuning.tune", find_nothing)
    return begun


def test_a_study_of_another_recipe_is_another(run: Any, few_data: Path, searches: list[Bounds]) -> None:
    for options in ((), ("--threads", "1"), ("--features", "extended"), ("--sample",), ()):
        run("tune", *options, data=few_data)
    names = [search.name for search in searches]
    assert len(set(names[:-1])) == 4
    assert names[-1] == names[0]


@pytest.mark.usefixtures("searches")
def test_what_tuning_finds_is_written_where_it_was_asked_for(
    run: Any, root: Path, tmp_path: Path, few_data: Path
) -> None:
    out = tmp_path / "results" / "of" / "best.json"
    run("tune", "--out", str(out), data=few_data)
    assert json.loads(out.read_text())["als"] == {"factors": 8}
    run("tune", "--out", str(tmp_path), data=few_data, status=2)
    run("tune", "--sample", data=few_data)
    assert (root / "sample" / "best_params.json").exists()
    assert not (root / "best_params.json").exists()  # that is for what was found with everybody


def test_a_folder_that_cannot_be_made_is_said_before_the_search(
    run: Any, tmp_path: Path, few_data: Path, searches: list[Bounds]
) -> None:
    (tmp_path / "results").touch()
    run("tune", "--out", str(tmp_path / "results" / "best.json"), data=few_data, status=1)
    assert searches == []


def test_a_file_that_holds_no_studies_is_named(run: Any, root: Path, few_data: Path) -> None:
    root.mkdir(exist_ok=True)
    (root / "tuning.db").write_bytes(b"no database, but something to keep" * 100)
    said = run("tune", "--threads", "1", "--trials", "1", data=few_data, status=1)
    assert f"{root / 'tuning.db'} cannot be used: file is not a database" in said.stderr


@pytest.mark.long
def test_what_tuning_finds_is_what_training_takes(run: Any, root: Path, few_data: Path) -> None:
    options = ("tune", "--threads", "1", "--minutes", "5")
    assert "after 1 trials" in run(*options, "--trials", "1", data=few_data).output
    assert "after 2 trials" in run(*options, "--trials", "2", data=few_data).output
    best = root / "best_params.json"
    found = json.loads(best.read_text())
    assert set(found) == {"als", "ranker", "tuning"}
    tuning = Tuning.of(found)
    assert tuning is not None
    assert [len(study.trials) for study in tuning.studies.values()] == [2, 2]
    assert found["als"] == tuning.studies["als"].best.parameters
    options = ("--params", str(best), "--ranker-depth", "2", "--force")
    run("train", *QUICK[:4], *options, data=few_data)
    store = BundleStore(root)
    bundle_id = store.pointer().bundle_id
    report = (store.path(bundle_id) / "reports" / "report.html").read_text()
    assert "Where its parameters came from" in report
    assert f"<td>{tuning.studies['ranker'].best.ndcg:.3f}</td>" in report
    recipe = store.manifest(bundle_id).recipe
    assert recipe["als_factors"] == found["als"]["factors"]
    assert recipe["ranker_learning_rate"] == found["ranker"]["learning_rate"]
    assert recipe["ranker_depth"] == 2
    parents = [one for one in runs(root, "tuning") if "mlflow.parentRunId" not in one.data.tags]
    assert len(parents) == 2
    assert parents[-1].data.params["als_factors"] == str(found["als"]["factors"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "expected the JSON that `tune` writes"),
        ("not json", "expected the JSON that `tune` writes"),
        ('{"als": {"confidence": "much"}}', "als, confidence: Input should be 'likes', 'linear', 'log' or"),
        ('{"als": {"factors": "many"}}', "als, factors: Input should be a valid integer"),
        ('{"ranker": {"depth": 2.5}}', "ranker, depth: Input should be a valid integer"),
        ('{"als": {}, "tuning": {"studies": 3}}', "expected the JSON that `tune` writes"),
        ('{"ranker": {"trees": 3}}', "ranker has no parameter trees; there are depth, early_stopping_rounds"),
        ('{"als": {"alpha": 1e30}}', "als, alpha: Input should be "),  # limits are those of the options
        ('{"als": {"factors": 0}}', "als, factors: Input should be "),
        ('{"ranker": {"depth": 99}}', "ranker, depth: Input should be "),
        ('{"als": {"regularization": "nan"}}', "als, regularization: Input should be "),
    ],
)
def test_a_file_of_parameters_that_is_none(run: Any, tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "params.json"
    path.write_text(content)
    said = run("train", "--sample", "--params", str(path), status=1)
    assert f"{path}: {words}" in said.stderr
    assert "Traceback" not in said.output


def test_recommendations_in_a_table(trained: Trained) -> None:
    options = ["--user", "1", "-n", "3", "--bundle-root", str(trained.root)]
    plain = CliRunner().invoke(app, ["recommend", *options])
    explained = CliRunner().invoke(app, ["recommend", *options, "--explain"])
    assert plain.exit_code == explained.exit_code == 0
    assert plain.output.count("two_stage") == explained.output.count("two_stage") == 3
    assert "als_" in explained.output
    assert "als_" not in plain.output
    stranger = CliRunner().invoke(app, ["recommend", "--user", "999999", *options[2:]])
    assert stranger.output.count("popularity_fallback") == 3
