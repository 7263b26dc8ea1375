"""What the commands for single models have in common: measuring one, and recording it in MLflow."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.ids import Rows
from serving.limits import DEFAULT_CANDIDATES
from serving.ratings import Ratings
from training.data.preparation import Prepared
from training.evaluation.judging import judge
from training.evaluation.splits import Split, SplitProtocol, judged_split
from training.experiments.baselines import popular_lists
from training.models.lists import else_popular
from training.models.recommenders import Recommender
from training.progress import Progress
from training.release.run_record import RunRecord
from training.release.tracking import track

Fit = Callable[[Ratings], Recommender]
"""Fits a model on ratings."""


@dataclass(frozen=True)
class SingleModelJob:
    """The state of one such command."""

    progress: Progress
    prepared: Prepared
    root: Path
    folder: Path
    """For artefacts; gone when the job is over."""
    sample: bool
    tracking_uri: str | None

    def measure(
        self, fit: Fit, protocol: SplitProtocol, n_candidates: int = DEFAULT_CANDIDATES
    ) -> dict[str, float]:
        """Judges lists of `n_candidates` movies on the validation and the test part, and shows the result.

        The validation part is cut from what is left without the test part, in the same way.

        Returns:
            Metrics by name, as `val_ndcg_at_10` and `test_ndcg_at_10`; none of a part that can judge nobody.
        """
        test = judged_split(self.prepared.clean.ratings, protocol)
        metrics: dict[str, float] = {}
        shown = ("ndcg_at_10", "recall_at_10", "coverage_at_10", f"recall_at_{n_candidates}")
        said = []
        for part, judged in (("val", judged_split(test.train, protocol)), ("test", test)):
            means: dict[str, float] = {}
            if judged.users.size:  # else there is not always a past to fit on
                with self.progress.step(
                    f"Fitting and judging on the {part} part", judged.users.size
                ) as advance:
                    lists = self._lists(judged, fit, n_candidates, advance)
                    means = judge(lists, judged, candidates=n_candidates).means()
            metrics |= {f"{part}_{name}": mean for name, mean in means.items()}
            values = ", ".join(f"{name} {means[name]:.4f}" for name in shown if name in means)
            said.append(f"{part}, protocol '{protocol}': {values or 'nobody can be judged'}")
        for line in said:
            self.progress.console.print(line)
        return metrics

    def _lists(self, judged: Split, fit: Fit, limit: int, advance: Callable[[], None]) -> Sequence[Rows]:
        """Each judged user's list; what is popular for one whom the model does not know, as when serving."""
        model = fit(judged.train)
        lists = []
        for user_row in judged.users.tolist():
            lists.append(model.scored(user_row, limit, explain=False).movie_rows)
            advance()
        n_movies = len(self.prepared.table.movies.ids)
        return else_popular(lists, popular_lists(judged, n_movies, limit=limit))

    def track(
        self,
        experiment: str,
        model: str,
        parameters: Mapping[str, str | int | float | bool],
        metrics: Mapping[str, float],
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
            track(self.root, record, self.tracking_uri)
