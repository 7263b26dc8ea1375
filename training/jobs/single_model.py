"""What the commands for single models have in common: measuring one, and recording it in MLflow."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serving.limits import DEFAULT_CANDIDATES
from training.data.preparation import Prepared
from training.evaluation.splits import SplitProtocol
from training.experiments.single import Fit, measure_single
from training.progress import Progress
from training.release.run_record import RunRecord
from training.release.tracking import track


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
        """Judges a model and shows the result."""
        metrics = measure_single(
            self.prepared.clean.ratings,
            self.prepared.table,
            protocol,
            fit,
            self.progress,
            n_candidates=n_candidates,
        )
        for part in ("val", "test"):
            shown = ", ".join(
                f"{name} {metrics[f'{part}_{name}']:.4f}"
                for name in ("ndcg_at_10", "recall_at_10", "coverage_at_10", f"recall_at_{n_candidates}")
                if f"{part}_{name}" in metrics
            )
            self.progress.console.print(f"{part}, protocol '{protocol}': {shown or 'nobody can be judged'}")
        return metrics

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
