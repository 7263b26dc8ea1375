"""The figures of the report, each as an SVG in a data URI: the page needs no other file."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from serving.features.group import Feature, FeatureGroup
from serving.features.movie import MovieFeatures
from serving.features.pace import PaceFeatures
from serving.features.place import PlaceFeatures
from serving.features.retrieval import RetrievalFeatures
from serving.features.sets import ALL_GROUPS
from serving.features.user import UserFeatures
from serving.ids import Rows
from training.evaluation.judging import BANDS, Quality, by_history_length, interval
from training.evaluation.metrics import hits
from training.evaluation.splits import Split
from training.experiments.experiment import Measurement
from training.experiments.studies import Study
from training.models.ranker_selection import LearningCurve, RankerChoice
from training.report.findings import MODELS

_STYLE: Final[dict[Any, Any]] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.edgecolor": "#b8bdc4",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.labelcolor": "#3c434c",
    "axes.titlecolor": "#1c2128",
    "grid.color": "#e7e9ec",
    "xtick.color": "#5b636e",
    "ytick.color": "#3c434c",
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "svg.hashsalt": "movierec",  # else ids in the file are random
}
_USER: Final = {UserFeatures.NAME, PaceFeatures.NAME}
_MOVIE: Final = {MovieFeatures.NAME}
_STAGE_ONE: Final = {RetrievalFeatures.NAME, PlaceFeatures.NAME}
_FAMILIES: Final = (
    ("the user", "#c3a35a", _USER),
    ("the movie", "#9aa1ab", _MOVIE),
    ("stage one", "#2f75b5", _STAGE_ONE),
    (
        "user and movie together",
        "#0a7c66",
        {group.NAME for group in ALL_GROUPS} - _USER - _MOVIE - _STAGE_ONE,
    ),
)
_DEPTHS: Final = (5, 10, 20, 30, 50, 75, 100, 150, 200, 250, 300, 400, 500, 700)
_SHOWN_FEATURES: Final = 18
_WIDTH: Final = 9.6


def quality_by_model(qualities: Mapping[str, Quality]) -> str:
    """NDCG@10 of each model with its bootstrap interval over users."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 0.6 + 0.42 * len(qualities)), layout="constrained")
        axes = figure.subplots()
        for place, (model, quality) in enumerate(reversed(list(qualities.items()))):
            values = quality.per_user["ndcg_at_10"]
            low, high = interval(values)
            axes.plot([low, high], [place, place], color=MODELS[model].colour, linewidth=5, alpha=0.35)
            axes.plot(values.mean(), place, "o", color=MODELS[model].colour, markersize=8)
            axes.annotate(
                f"{values.mean():.3f}", (high, place), (8, 0), textcoords="offset points", va="center"
            )
        axes.set_yticks(range(len(qualities)), [MODELS[model].title for model in reversed(list(qualities))])
        axes.set_xlabel("nDCG@10, mean over users and 95 % interval")
        axes.set_xlim(left=0)
        axes.set_ylim(-0.6, len(qualities) - 0.4)
        axes.grid(visible=False, axis="y")
        return _embedded(figure)


def quality_by_segment(qualities: Mapping[str, Quality], judged: Split) -> str:
    """NDCG@10 by history length; recall@10 by popularity of what was liked."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 3.7), layout="constrained")
        left, right = figure.subplots(1, 2)
        segments = by_history_length(judged.history_lengths)
        for model, quality in qualities.items():
            ndcg = quality.per_user["ndcg_at_10"]
            _steps(left, model, [float(ndcg[segment.members].mean()) for segment in segments])
            means = quality.means()
            _steps(right, model, [means.get(f"recall_at_10_{band}", np.nan) for band in BANDS])
        left.set_xticks(
            range(len(segments)),
            [f"{one.shortest} to {one.longest}\nratings, {one.members.sum()} users" for one in segments],
        )
        left.set_title("nDCG@10 by length of the user's history")
        right.set_xticks(range(len(BANDS)), ["head", "middle", "tail"])
        right.set_title("recall@10 by popularity of the liked movie")
        for axes in (left, right):
            axes.set_ylim(bottom=0)
            axes.margins(x=0.08)
            axes.grid(visible=False, axis="x")
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6))
        return _embedded(figure)


def recall_by_candidates(measurement: Measurement) -> str:
    """Recall by how many movies of the list are looked at, of the models that could retrieve."""
    n_candidates = measurement.recipe.n_candidates
    depths = [*(depth for depth in _DEPTHS if depth < n_candidates), n_candidates]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 3.7), layout="constrained")
        axes = figure.subplots()
        for model, lists in measurement.lists.items():
            if model in {"two_stage_reference", "als_reference"}:
                continue
            recalls = [
                hits(ours, liked, n_candidates).cumsum() / liked.size
                for ours, liked in zip(lists, measurement.judged.relevant, strict=True)
            ]
            values = np.mean(recalls, axis=0)[np.array(depths) - 1]
            axes.plot(depths, values, color=MODELS[model].colour, label=MODELS[model].title, **_line(model))
        axes.set_xlabel("movies taken from the top of the list")
        axes.set_title("share of the movies liked later that are among them")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_ylim(bottom=0)
        axes.set_xlim(0, n_candidates * 1.01)
        axes.legend(loc="lower right")
        return _embedded(figure)


def learning_curve(choice: RankerChoice) -> str:
    """The validation part's nDCG@10 by number of trees, one line per loss, with standard errors."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 3.4), layout="constrained")
        axes = figure.subplots()
        for curve, colour in zip(choice.curves, ("#0a7c66", "#b5562f"), strict=False):
            _curve(axes, curve, colour)
            if curve.loss is choice.loss:
                place = curve.trees.index(choice.iterations)
                axes.plot(
                    choice.iterations, curve.ndcg[place], "o", color=colour, markersize=10, label="taken"
                )
        axes.set_xlabel("trees")
        axes.set_title("nDCG@10 on the validation part, of users with a liked movie among their candidates")
        axes.legend(loc="lower right")
        return _embedded(figure)


def trials(studies: Mapping[str, Study]) -> str:
    """Validation nDCG@10 of each trial of a search and the best so far, one panel per stage."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 3.2), layout="constrained")
        panels = figure.subplots(1, len(studies), squeeze=False)[0]
        for axes, (stage, study) in zip(panels, studies.items(), strict=True):
            reached = np.array([trial.ndcg for trial in study.trials])
            numbers = np.arange(1, reached.size + 1)
            axes.plot(numbers, reached, "o", color="#9aa1ab", label="a trial")
            axes.step(
                numbers, np.maximum.accumulate(reached), where="post", color="#0a7c66", label="best so far"
            )
            axes.plot(1, reached[0], "o", color="#c2571a", markersize=8, label="the defaults")
            axes.set_title(f"{stage}: nDCG@10 on the validation part")
            axes.set_xlabel("trial")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.legend(loc="lower right")
        return _embedded(figure)


def feature_importance(
    features: Sequence[tuple[FeatureGroup, Feature]], importance: npt.NDArray[np.float64]
) -> str:
    """The features that move the ranker's score most, coloured by what they are about."""
    best = [(*features[place], importance.item(place)) for place in (-importance).argsort()[:_SHOWN_FEATURES]]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 0.9 + 0.27 * len(best)), layout="constrained")
        axes = figure.subplots()
        for about, colour, family in _FAMILIES:
            chosen = [(place, value) for place, (group, _, value) in enumerate(best) if group.NAME in family]
            if chosen:
                places, values = zip(*chosen, strict=True)
                axes.barh(places, values, color=colour, height=0.66, label=about)
        axes.set_yticks(
            range(len(best)), [feature.name for _, feature, _ in best], family="DejaVu Sans Mono", fontsize=9
        )
        axes.invert_yaxis()
        axes.set_xlabel("share of all changes of the score, %")
        axes.grid(visible=False, axis="y")
        axes.legend(loc="lower right", title="features of", alignment="left")
        return _embedded(figure)


def beeswarm(values: npt.NDArray[np.float64], features: npt.NDArray[np.float32], names: Sequence[str]) -> str:
    """One point per candidate and feature: how the feature's value moved the score."""
    mpl.use("Agg")  # shap draws by pyplot
    # shap compiles code on import, which takes seconds: only who draws pays.
    import shap  # noqa: PLC0415
    from matplotlib import pyplot as plt  # noqa: PLC0415

    with mpl.rc_context(_STYLE):
        figure = plt.figure(figsize=(_WIDTH, 6.2), layout="constrained")
        axes = figure.subplots()
        known = ~np.isnan(features).all(axis=0)  # shap has no colour for a feature that no candidate has
        explanation = shap.Explanation(
            values=values[:, known],
            data=features[:, known],
            feature_names=[names[column] for column in np.flatnonzero(known).tolist()],
        )
        shap.plots.beeswarm(
            explanation, max_display=15, show=False, ax=axes, plot_size=None, group_remaining_features=False
        )
        axes.set_xlabel("SHAP value: how far the feature moves the score of a candidate", fontsize=10)
        axes.tick_params(axis="y", labelsize=9, labelfontfamily="DejaVu Sans Mono")
        for drawn in axes.collections:
            drawn.set_rasterized(True)
        plt.close(figure)
        return _embedded(figure)


def score_distributions(inner: npt.NDArray[np.float32], refit: npt.NDArray[np.float32]) -> str:
    """ALS scores of candidates: where the ranker learned to read them, and where it reads them now."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 3.0), layout="constrained")
        axes = figure.subplots()
        both = np.concatenate([inner, refit])
        bins = np.linspace(both.min(), np.quantile(both, 0.998), 60).tolist() if both.size else [0.0, 1.0]
        for scores, colour, label in (
            (inner, "#b5562f", "inner fit: what the ranker learned from"),
            (refit, "#2f75b5", "refit on everything: what it is served with"),
        ):
            axes.hist(scores, bins=bins, density=True, color=colour, alpha=0.22)
            axes.hist(
                scores, bins=bins, density=True, color=colour, histtype="step", linewidth=1.6, label=label
            )
            if scores.size:
                axes.axvline(float(np.median(scores)), color=colour, linewidth=1, linestyle="--")
        axes.set_xlabel("ALS score of a candidate; dashed: the medians")
        axes.set_yticks([])
        axes.legend(loc="upper right")
        return _embedded(figure)


def coverage_by_decile(measurement: Measurement) -> str:
    """Share of the movies of each popularity decile that anybody is shown in the first 10."""
    movie_counts = np.bincount(measurement.judged.train.movie_rows)
    shares = {model: decile_coverage(lists, movie_counts) for model, lists in measurement.lists.items()}
    models = [model for model in MODELS if model in shares]
    grid = np.array([shares[model] for model in models])
    with mpl.rc_context({**_STYLE, "axes.grid": False}):
        figure = Figure(figsize=(_WIDTH, 1.0 + 0.42 * len(models)), layout="constrained")
        axes = figure.subplots()
        axes.imshow(np.sqrt(grid), cmap="BuGn", vmin=0, vmax=1, aspect="auto")
        for row, values in enumerate(grid):
            for column, share in enumerate(values):
                text = "" if share == 0 else f"{share:.0%}" if share >= 0.01 else "<1%"  # noqa: PLR2004
                dark = share > 0.3  # noqa: PLR2004
                axes.text(column, row, text, ha="center", va="center", color="white" if dark else "#1c2128")
        axes.set_xticks(range(10), ["most\nrated", *(str(i) for i in range(2, 10)), "least\nrated"])
        axes.set_yticks(range(len(models)), [MODELS[model].title for model in models])
        axes.spines[:].set_visible(False)
        axes.set_xlabel("tenth of the movies, by number of ratings")
        return _embedded(figure)


def decile_coverage(lists: Sequence[Rows], movie_counts: npt.NDArray[np.int64]) -> list[float]:
    """By tenth of the rated movies, most rated first: the share that is in anybody's first 10."""
    order = np.lexsort((np.arange(movie_counts.size), -movie_counts))
    order = order[: np.count_nonzero(movie_counts)]
    is_shown = np.isin(order, np.concatenate([movies[:10] for movies in lists]))
    return [float(tenth.mean()) if tenth.size else 0.0 for tenth in np.array_split(is_shown, 10)]


def _steps(axes: Axes, model: str, values: Sequence[float]) -> None:
    axes.plot(values, marker="o", color=MODELS[model].colour, label=MODELS[model].title, **_line(model))


def _line(model: str) -> dict[str, Any]:
    return {"linewidth": 2.6, "zorder": 3} if model == "two_stage" else {"linewidth": 1.5}


def _curve(axes: Axes, curve: LearningCurve, colour: str) -> None:
    means, errors = np.array(curve.ndcg), np.array(curve.standard_errors)
    axes.plot(curve.trees, means, marker=".", color=colour, label=curve.loss.value)
    axes.fill_between(curve.trees, means - errors, means + errors, color=colour, alpha=0.12, linewidth=0)


def _embedded(figure: Figure) -> str:
    out = io.BytesIO()
    figure.savefig(out, format="svg", dpi=160, metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(out.getvalue()).decode()
