"""The report, its warnings, and the symptom of a leak, on the generated data set."""

import base64
import io
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from serving.features.sets import FeatureSet, feature_names
from serving.fold_in import AlsParameters, Confidence
from serving.sources import ALS_ALONE
from tests.conftest import write_first_users
from tests.training.small import HERE, PROGRESS
from training.data.movielens.cleaning import CleanRatings
from training.data.movielens.data_set import read_data_set
from training.data.movielens.movies import MovieTable
from training.data.preparation import Prepared
from training.engine.local import LocalEngine
from training.evaluation.judging import Lift, Quality
from training.evaluation.splits import ENOUGH_USERS, SplitProtocol, split
from training.experiments.experiment import Measurement, measure
from training.experiments.short_histories import ShortHistories
from training.experiments.source_weights import SourceChoice
from training.models import ranker
from training.models.als import Als
from training.models.first_stage import FirstStage
from training.models.job_context import JobContext
from training.models.ranker_selection import LearningCurve, RankerChoice
from training.models.recipe import Loss, RankerParameters, Recipe
from training.models.two_stage import TwoStage, fit_two_stage
from training.publish.gate import Evaluation, judge_challenger
from training.publish.publish import Build, publish
from training.report.figures import decile_coverage
from training.report.findings import lifts, sources_sentence, warnings_of
from training.report.report import render_report
from training.report.tables import print_measurements

CURVES = tuple(
    LearningCurve(loss=loss, trees=(20, 40), ndcg=(0.3, 0.4), standard_errors=(0.02, 0.02)) for loss in Loss
)
CHOICE = RankerChoice(loss=Loss.LOGLOSS, iterations=40, validation_ndcg={}, curves=CURVES)


@pytest.fixture(scope="module")
def sample(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[MovieTable, CleanRatings]:
    """No more users than it takes for numbers not to be called chance."""
    folder = tmp_path_factory.mktemp("sample")
    write_first_users(ENOUGH_USERS + 20, generated, folder)
    return read_data_set(folder)


RECIPE = Recipe(
    als=AlsParameters(factors=32, iterations=8, regularization=10.0, alpha=5.0, confidence=Confidence.LIKES),
    ranker=RankerParameters(iterations=40, learning_rate=0.15, depth=4),
    feature_groups=FeatureSet.EXTENDED.groups,
    protocol=SplitProtocol.USER,
    seed=0,
    threads=2,
)


@pytest.fixture(scope="module")
def measured(sample: tuple[MovieTable, CleanRatings]) -> tuple[Measurement, TwoStage]:
    """The measurement, and the recommender that is served; loss and trees are given, which saves time."""
    table, clean = sample
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.experiments.experiment.choose_ranker", lambda *_: CHOICE)
        measurement = measure(clean.ratings, JobContext(table, RECIPE, PROGRESS, HERE), validate=True)
    return measurement, fit_two_stage(clean.ratings, JobContext(table, RECIPE, PROGRESS, HERE), CHOICE)


@pytest.fixture(scope="module")
def prepared(sample: tuple[MovieTable, CleanRatings]) -> Prepared:
    table, clean = sample
    return Prepared(table, clean, clean.tag("sample"), "generated", "sample-0")


@pytest.fixture(scope="module")
def page(prepared: Prepared, measured: tuple[Measurement, TwoStage]) -> str:
    return render_report(prepared, *measured)


def is_warned(measurement: Measurement, words: str) -> bool:
    return any(words in warning for warning in warnings_of([measurement]))


def rows_of(page: str) -> list[list[str]]:
    """The texts of the cells of each row of its tables."""
    rows = re.findall(r"<tr\b[^>]*>(.*?)</tr>", page, re.DOTALL)
    cells = [re.findall(r"<t[dh]\b[^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in rows]
    return [[unescape(re.sub(r"<[^>]+>", "", text)).strip() for text in row] for row in cells]


def test_report_shows_the_numbers_of_the_measurement(
    page: str, measured: tuple[Measurement, TwoStage]
) -> None:
    rows = {row[0]: row for row in reversed(rows_of(page)) if row}  # the first of a name stays
    measurement = measured[0]
    for model, title in (("popularity", "popularity"), ("ease", "EASE"), ("two_stage", "two-stage")):
        means, row = measurement.qualities[model].means(), rows[title]
        for name in ("ndcg_at_10", "recall_at_10", "coverage_at_10", "recall_at_300", "ceiling_ndcg_at_10"):
            assert any(f"{means[name]:.3f}" in cell for cell in row[1:]), (title, name)
        assert row[-1] == f"{measurement.validation[model].means()['ndcg_at_10']:.3f}"
    over_als, *_ = lifts(measurement.qualities)
    assert f"[{over_als.low:+.3f}, {over_als.high:+.3f}]" in page


def test_report_needs_no_other_file(page: str) -> None:
    images = re.findall(r'<img\b[^>]*\bsrc="([^"]*)"', page)
    assert len(images) == 8
    assert re.findall(r'\b(?:src|href|srcset|action|data)="(?!data:image)', page) == []
    for image in images:
        assert image.startswith("data:image/svg+xml;base64,")
        drawn = base64.b64decode(image.partition(",")[2]).decode()
        assert all(link.startswith(("#", "data:")) for link in re.findall(r'href="([^"]*)"', drawn))
    assert "http" not in page
    assert "@import" not in page
    assert "url(" not in page


def test_report_says_what_was_trained_on_what(page: str, sample: tuple[MovieTable, CleanRatings]) -> None:
    cells = {row[0]: row[1] for row in rows_of(page) if len(row) == 2}
    table, clean = sample
    assert cells["data set"] == clean.tag("sample")
    assert cells["ratings read"] == f"{clean.counts.read:,}"
    assert cells["catalogue"].startswith(f"{len(table.titles):,} movies")
    assert (cells["protocol"], cells["seed"], cells["als_factors"]) == ("user", "0", "32")
    names = feature_names(RECIPE.feature_groups, table.movies.genres)
    assert cells["ranker"] == f"Logloss, 40 trees, {len(names)} features"


def test_report_says_what_every_feature_means(page: str, measured: tuple[Measurement, TwoStage]) -> None:
    """Those of genres, too, which are the catalogue's own."""
    _, served = measured
    meanings = page[page.index("What the features mean") :]
    for _, feature in served.stage.tables.features:
        assert f"<dt><code>{feature.name}</code></dt>" in meanings


def test_report_lies_in_the_bundle_and_not_in_its_identity(
    page: str, sample: tuple[MovieTable, CleanRatings], measured: tuple[Measurement, TwoStage], tmp_path: Path
) -> None:
    build = Build(
        two_stage=measured[1], table=sample[0], recipe=RECIPE, dataset_tag="sample", metrics={}, report=page
    )
    bundle_id = publish(tmp_path / "with", build, PROGRESS)
    report = tmp_path / "with" / "bundles" / bundle_id / "reports" / "report.html"
    assert report.read_text() == page
    assert publish(tmp_path / "without", replace(build, report=None), PROGRESS) == bundle_id


def test_seeds_with_other_sources_have_one_table(measured: tuple[Measurement, TwoStage]) -> None:
    """One seed's candidates are merged from several sources, those of the other are of ALS alone."""
    alone = measured[0]
    several = replace(
        alone,
        qualities={**alone.qualities, "candidates": alone.qualities["als"]},
        profiles={**alone.profiles, "candidates": alone.profiles["als"]},
    )
    for runs in ([several, alone], [alone, several]):
        printed = io.StringIO()
        print_measurements(Console(file=printed, width=10_000), runs, "sample")
        assert "candidates, merged" not in printed.getvalue()
        assert "two-stage over ALS" in printed.getvalue()


def test_what_each_seed_chose_is_said_of_that_seed(measured: tuple[Measurement, TwoStage]) -> None:
    worse = Lift("two_stage", "popularity", mean=-0.2, low=-0.3, high=-0.1)
    runs = [
        replace(
            measured[0],
            recipe=replace(RECIPE, seed=seed, feature_groups=feature_set.groups),
            als_ndcg={10.0: 0.1, 30.0: 0.1 + seed},
            sources=SourceChoice({}, ALS_ALONE, low=0.0, high=0.0),
            short_histories=ShortHistories(dict.fromkeys(range(1, seed + 1), worse)),
        )
        for seed, feature_set in enumerate((FeatureSet.REFERENCE, FeatureSet.EXTENDED))
    ]
    printed = io.StringIO()
    print_measurements(Console(file=printed, width=10_000), runs, "sample")
    for words in (
        "features by seed, mean of seeds 0, 1.",
        "seed 0: ALS, nDCG@10 on the validation part by λ: 10: 0.1000, 30: 0.1000",
        "seed 1: ALS, nDCG@10 on the validation part by λ: 10: 0.1000, 30: 1.1000",
        "seed 1: Sources of candidates: als 1.",
        "seed 0: New users: nobody gets only what is popular.",
        "seed 1: New users: below 2 ratings, users get what is popular.",
        "Warning: ALS of seed 1 took λ = 30, the largest tried",
        "Warning: What is popular serves users with fewer than 2 ratings better than two-stage of seed 1",
    ):
        assert words in printed.getvalue()
    assert printed.getvalue().count("EASE, nDCG@10 on the validation part by λ") == 1


def test_what_stage_one_leaves_is_said_of_what_it_hands_over(
    page: str, prepared: Prepared, measured: tuple[Measurement, TwoStage]
) -> None:
    """Of several sources it hands over more than ALS alone would."""
    alone = measured[0].qualities["als"]
    more = {name: alone.per_user[name] * 0 + 0.625 for name in ("recall_at_300", "ceiling_ndcg_at_10")}
    several = replace(
        measured[0],
        qualities={
            **measured[0].qualities,
            "candidates": Quality({**alone.per_user, **more}, alone.coverage),
        },
        profiles={**measured[0].profiles, "candidates": measured[0].profiles["als"]},
    )
    merged = render_report(prepared, several, measured[1])
    captions = [
        one[one.index("Stage two can only reorder") :].split("</figcaption>")[0] for one in (page, merged)
    ]
    als = alone.means()
    assert f"{als['ceiling_ndcg_at_10']:.3f}; it reaches" in captions[0]
    assert "the two lines of stage one and" in captions[0]
    assert "hands over: 62&nbsp;%" in captions[1]
    assert "0.625; it reaches" in captions[1]
    assert "the two lines of the merged candidates and" in captions[1]


def test_weights_of_sources_that_nobody_measured_are_said_to_be_so() -> None:
    sentence = sources_sentence(SourceChoice({}, ALS_ALONE, low=0.0, high=0.0), 300)
    assert sentence == "Sources of candidates: als 1. Recall@300 on the validation part: too few users to say"


def test_nothing_is_learned_from_the_validation_part(
    sample: tuple[MovieTable, CleanRatings], measured: tuple[Measurement, TwoStage]
) -> None:
    test = split(sample[1].ratings, SplitProtocol.USER)
    before = split(test.train, SplitProtocol.USER)
    n_users = {
        model: len(quality.per_user["ndcg_at_10"]) for model, quality in measured[0].validation.items()
    }
    assert n_users == dict.fromkeys(measured[0].qualities, before.users.size)


def test_ceiling_and_recall_of_two_stage_are_those_of_stage_one(
    measured: tuple[Measurement, TwoStage],
) -> None:
    qualities = measured[0].qualities
    for name in ("recall_at_300", "ceiling_ndcg_at_10"):
        ours, theirs = (qualities[model].per_user[name] for model in ("two_stage", "als"))
        np.testing.assert_array_equal(ours, theirs)
    assert np.all(
        qualities["two_stage"].per_user["ndcg_at_10"]
        <= qualities["two_stage"].per_user["ceiling_ndcg_at_10"] + 1e-12
    )


def scaled(measurement: Measurement, **factors: float) -> Measurement:
    """The measurement with the nDCG@10 of some models multiplied."""
    qualities = dict(measurement.qualities)
    for model, factor in factors.items():
        per_user = dict(qualities[model].per_user)
        per_user["ndcg_at_10"] = per_user["ndcg_at_10"] * factor
        qualities[model] = Quality(per_user=per_user, coverage=qualities[model].coverage)
    return replace(measurement, qualities=qualities)


@pytest.mark.parametrize(
    ("factors", "words"),
    [
        ({"two_stage": 0.1}, "below its own stage one"),
        ({"als": 0.1}, "ALS (0.0"),
        ({"two_stage": 0.05}, "two-stage (0.0"),
        ({"ease": 9.0}, "below EASE"),
    ],
)
def test_warnings_say_in_words_what_is_weak(
    measured: tuple[Measurement, TwoStage], factors: dict[str, float], words: str
) -> None:
    assert not is_warned(measured[0], words)
    assert is_warned(scaled(measured[0], **factors), words)


def test_warnings_say_where_the_validation_part_disagrees(measured: tuple[Measurement, TwoStage]) -> None:
    """As seen on MovieLens 1M by time: two-stage above EASE on the test part, and below it on the other."""
    agreeing = replace(measured[0], validation=measured[0].qualities)
    assert not is_warned(agreeing, "validation part")
    other = replace(measured[0], validation=scaled(measured[0], ease=9.0).qualities)
    words = [warning for warning in warnings_of([other]) if "validation part" in warning]
    assert [one.split(" (")[0] for one in words] == [
        "The parts disagree: on the test part two-stage is best",
        "Two-stage is above EASE on the test part",
    ]


def test_a_chosen_length_of_histories_is_a_warning(measured: tuple[Measurement, TwoStage]) -> None:
    worse = Lift("two_stage", "popularity", mean=-0.2, low=-0.3, high=-0.1)
    short = ShortHistories({1: worse, 2: worse, 3: replace(worse, high=0.1)})
    assert short.least_history == 3
    assert is_warned(replace(measured[0], short_histories=short), "fewer than 3 ratings")
    none = replace(measured[0], short_histories=ShortHistories({1: replace(worse, high=0.0)}))
    assert not is_warned(none, "ratings better than")


def test_few_judged_users_allow_no_conclusion(measured: tuple[Measurement, TwoStage]) -> None:
    few = replace(measured[0], judged=measured[0].judged.only(np.arange(28)))
    assert warnings_of([few]) == ["Only 28 users can be judged under 'user': much may be chance."]


def test_a_report_of_nobody_judged_says_so(
    prepared: Prepared, measured: tuple[Measurement, TwoStage]
) -> None:
    measurement = measured[0]
    nobody = {
        model: Quality({name: values[:0] for name, values in quality.per_user.items()}, quality.coverage)
        for model, quality in measurement.qualities.items()
    }
    judged = measurement.judged.only(np.arange(0))
    empty = replace(measurement, judged=judged, qualities=nobody, validation={})
    assert "Only 0 users can be judged under" in render_report(prepared, empty, measured[1])


def test_a_leak_that_no_guard_sees_shows_as_a_ranker_below_stage_one(
    sample: tuple[MovieTable, CleanRatings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inner stage's factors come from all of the past, the labels' ratings included."""
    table, clean = sample
    test = split(clean.ratings, SplitProtocol.USER)
    honest_fit = FirstStage.fit

    def leaking_fit(ratings: Any, *arguments: Any, **options: Any) -> FirstStage:
        stage = honest_fit(ratings, *arguments, **options)
        if ratings is test.train:
            return stage
        knowing = Als.fit(test.train, len(table.movies.ids), overfitting, seed=0, engine=LocalEngine(2))
        return replace(stage, als=knowing)

    overfitting = replace(RECIPE.als, regularization=0.01, alpha=40.0)
    recipe = replace(RECIPE, als=overfitting, feature_groups=FeatureSet.REFERENCE.groups)
    monkeypatch.setattr("training.experiments.experiment.judged_split", lambda *_: test)
    monkeypatch.setattr(FirstStage, "fit", leaking_fit)
    monkeypatch.setattr("training.experiments.experiment.choose_ranker", lambda *_: CHOICE)
    measurement = measure(clean.ratings, JobContext(table, recipe, PROGRESS, HERE))
    printed = io.StringIO()
    print_measurements(Console(file=printed, width=10_000), [measurement], "sample")
    assert "labels from ratings that stage one" in printed.getvalue()


@pytest.mark.row(49)
def test_a_ranker_that_learned_from_shuffled_labels_does_not_pass_the_gate(
    sample: tuple[MovieTable, CleanRatings],
    prepared: Prepared,
    measured: tuple[Measurement, TwoStage],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table, clean = sample
    rng = np.random.default_rng(0)
    honest_fit = ranker.fit_ranker

    def fit_on_noise(groups: ranker.Groups, *arguments: Any, **options: Any) -> Any:
        return honest_fit(replace(groups, labels=rng.permutation(groups.labels)), *arguments, **options)

    monkeypatch.setattr("training.models.two_stage.fit_ranker", fit_on_noise)
    monkeypatch.setattr("training.experiments.experiment.choose_ranker", lambda *_: CHOICE)
    few_features = replace(RECIPE, feature_groups=FeatureSet.REFERENCE.groups)
    shuffled = measure(clean.ratings, JobContext(table, few_features, PROGRESS, HERE))
    served, challenger = (Evaluation.of(one, table.movies.ids) for one in (measured[0], shuffled))
    assert judge_challenger(served, served).refusals == ()
    verdict = judge_challenger(challenger, served)
    refusals = " ".join(verdict.refusals)
    assert "below ALS alone" in refusals
    assert "more than 2% below what is served" in refusals

    forced = render_report(prepared, shuffled, measured[1], verdict=verdict)
    over = verdict.over_served
    assert over is not None
    assert f"<td>[{over.low:+.3f}, {over.high:+.3f}]</td>\n<td>worse</td>" in forced
    assert f"Overridden: {verdict.refusals[0]}" in forced


def test_decile_coverage_counts_each_tenth_of_the_rated_movies() -> None:
    counts = np.array([0, *range(20, 0, -1)])  # movie 0 is unrated, 1 and 2 the most rated
    shares = decile_coverage([np.array([1, 3], np.int32), np.array([4, 20], np.int32)], counts)
    assert shares == [0.5, 1.0, 0, 0, 0, 0, 0, 0, 0, 0.5]
