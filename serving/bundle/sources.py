"""`sources.json` and `transitions.npz` of the candidate service: writers beside readers."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from serving.bundle.catalogue import read_popularity
from serving.bundle.store import BundleError, BundleFolder, write_arrays
from serving.links import LinkTable
from serving.sources import CandidateSources, Source, SourceWeights

TRANSITIONS_FILE: Final = "transitions.npz"
_SOURCES_FILE: Final = "sources.json"


@dataclass(frozen=True)
class SourcesRecord:
    """How candidates are found."""

    weights: SourceWeights
    least_history: int
    """Ratings below which a user has no candidates, as what is popular serves them better; 0: nobody."""

    @classmethod
    def read(cls, folder: BundleFolder) -> "SourcesRecord":
        """Reads what `write_sources` wrote of it.

        Raises:
            BundleError: the file is missing or damaged.
        """
        try:
            fields = json.loads(folder.read(_SOURCES_FILE))
            return cls(SourceWeights(**fields["weights"]), fields["least_history"])
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"bundle {folder.manifest.bundle_id}: {_SOURCES_FILE}: {error}") from error


def write_sources(folder: Path, record: SourcesRecord, transitions: LinkTable | None) -> None:
    """Writes all but item factors and popularity, which the bundle's processes share."""
    (folder / _SOURCES_FILE).write_text(json.dumps(asdict(record)), encoding="utf-8")
    if transitions is not None:
        write_arrays(folder / TRANSITIONS_FILE, **vars(transitions))


def read_sources(
    folder: BundleFolder, item_factors: npt.NDArray[np.float32]
) -> tuple[SourcesRecord, CandidateSources]:
    """Reads what `write_sources` wrote, and the popularity of movies where it is a source.

    Raises:
        BundleError: the parts do not fit together.
    """
    record = SourcesRecord.read(folder)
    used = record.weights.used
    try:
        transitions = None
        if Source.TRANSITIONS in used:
            transitions = LinkTable(**folder.arrays(TRANSITIONS_FILE, "indptr", "movie_rows", "weights"))
        popularity = read_popularity(folder) if Source.POPULARITY in used else np.empty(0)
        return record, CandidateSources(item_factors, record.weights, transitions, popularity)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"bundle {folder.manifest.bundle_id}: {error}") from error
