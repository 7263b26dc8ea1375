"""What a job does before its own work: it takes its folder for itself and reads the data."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from training.cli.console import failing_clearly, open_console
from training.cli.options import DataOptions
from training.lock import alone
from training.progress import Progress

if TYPE_CHECKING:
    from training.data.preparation import Prepared


@contextmanager
def prepared_data(
    data: DataOptions, *, sample: bool = False, dataset_tag: str | None = None
) -> "Iterator[tuple[Prepared, Progress]]":
    """The data and what shows progress, for a block that works alone in its folder and fails clearly."""
    from training.data.preparation import prepare

    progress = Progress(open_console())
    with failing_clearly(), alone(data.bundle_root):
        dataset, root = data.resolve(), data.bundle_root
        prepared = prepare(dataset, root, sample=sample, dataset_tag=dataset_tag, progress=progress)
        yield prepared, progress
