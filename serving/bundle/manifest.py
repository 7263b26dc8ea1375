"""The manifest of a bundle: what is in it, byte for byte, and what it was made from."""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from serving.shards import MAX_USER_SHARDS, UserShard

BUNDLE_ID_PATTERN: Final = r"^[0-9A-Za-z][0-9A-Za-z_-]{0,63}$"
MANIFEST_NAME: Final = "manifest.json"
SERVED_FOLDERS: Final = ("candidate", "gateway", "ranking", "similarity")
"""One per process that loads bundles."""

# No `..`, no hidden file, no second folder: whoever joins a path to a directory stays below it.
_PATH_PATTERN: Final = rf"^({'|'.join(SERVED_FOLDERS)})/[0-9A-Za-z][0-9A-Za-z._-]{{0,99}}$"

FilePath = Annotated[str, Field(pattern=_PATH_PATTERN)]
BundleId = Annotated[str, Field(pattern=BUNDLE_ID_PATTERN)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Record(BaseModel):
    # Any score is near an infinite golden one, and NaN would be written as null, which no server reads.
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class FileRecord(_Record):
    """One file of a bundle."""

    size: Annotated[int, Field(ge=0)]
    """Bytes."""
    sha256: Sha256
    """Of the contents."""


class FeatureRecord(_Record):
    """The features that the ranker was trained on."""

    groups: tuple[str, ...]
    """Names of the groups, in column order."""
    names: tuple[str, ...]
    """Column order."""
    dtype: Literal["float32"] = "float32"
    """Of every column."""
    hash: str
    """Of groups, versions, names and order: see `serving.features.sets.feature_hash`."""


class GoldenCandidates(_Record):
    """A retrieval that must come out again after loading."""

    user_id: int
    """A trained user."""
    movie_ids: tuple[int, ...]
    """The best, seen movies left out."""
    scores: tuple[float, ...]
    """One per movie."""


class GoldenRanking(_Record):
    """A ranking that must come out again after loading."""

    user_id: int
    """A trained user."""
    movie_ids: tuple[int, ...]
    """Candidates, in the order of retrieval."""
    retrieval_scores: tuple[float, ...]
    """ALS scores, one per candidate."""
    source_ranks: Mapping[str, tuple[int, ...]] = {}
    """By source, one per candidate; empty where ALS is the only source."""
    scores: tuple[float, ...]
    """The ranker's, one per candidate, in the same order."""


class GoldenSimilar(_Record):
    """A look-up that must come out again after loading."""

    movie_id: int
    """A movie with neighbours."""
    movie_ids: tuple[int, ...]
    """Its nearest, best first."""
    scores: tuple[float, ...]
    """One per neighbour."""


class ShardRecord(_Record):
    """One shard of the users: what a server that holds nobody else must reproduce."""

    candidate: GoldenCandidates
    """Of a user of this shard."""
    ranking: GoldenRanking
    """Of the same user."""


class Golden(_Record):
    """Inputs and outputs that a loaded bundle must reproduce within `GOLDEN_TOLERANCE`."""

    candidate: GoldenCandidates
    ranking: GoldenRanking
    similarity: GoldenSimilar


GOLDEN_TOLERANCE: Final = 1e-6
"""Relative to the larger of 1 and the score."""


class QualityRecord(_Record):
    """How sure the metrics are."""

    judged_users: Annotated[int, Field(ge=0)]
    """Users of the test part whom models were judged by."""
    ndcg_at_10: Mapping[str, tuple[float, float]]
    """By model: the 95 % bootstrap interval of the mean over users; empty when nobody was judged."""
    warnings: tuple[str, ...]
    """What is wrong or weak about the measurement, in sentences."""


class Manifest(_Record):
    """Says what a bundle holds. Written last: a directory without it is not a bundle."""

    format_version: Literal[3] = 3
    """Of the bundle's layout; another one is refused."""
    bundle_id: BundleId
    """First 16 hex digits of the sha256 over the sorted (path, sha256) pairs of `files`."""
    files: Mapping[FilePath, FileRecord]
    """By path relative to the bundle, as `candidate/als.json`."""
    dataset_tag: str
    """Name of the data set and the first 8 digits of the hash of its cleaned ratings."""
    features: FeatureRecord
    """What the ranker reads."""
    n_candidates: Annotated[int, Field(ge=1, le=1_000)]
    """Movies that stage one hands to stage two for a user: as many as the ranker learned from."""
    recipe: Mapping[str, str | int | float | bool | None]
    """How the served models were trained: the recipe that `metrics` were measured with."""
    metrics: Mapping[str, Mapping[str, float]]
    """By model, then metric, as `ndcg_at_10`: on the test part, before the last refit."""
    quality: QualityRecord | None = Field(default=None, exclude_if=lambda quality: quality is None)
    """How sure the metrics are; none where they come without a report."""
    libraries: Mapping[str, str]
    """Versions of the libraries that trained it."""
    rules: Annotated[int, Field(ge=1)] = 1
    """How the recipe was followed, `training.models.recipe.RULES`: by others it may give another bundle."""
    golden: Golden
    """Checked by every server before it takes the bundle."""
    shards: Annotated[tuple[ShardRecord, ...], Field(max_length=MAX_USER_SHARDS)] = Field(
        default=(), exclude_if=lambda shards: not shards
    )
    """The pieces that what is known of users is in, by `serving.shards`; empty: it is in one."""
    scan_share: float | None = Field(default=None, exclude_if=lambda share: share is None)
    """Mean share of the item factors that a scan by norm reads; measured for large catalogues alone."""

    @property
    def user_shards(self) -> int:
        """How many pieces what is known of users is in."""
        return max(1, len(self.shards))

    def files_for(self, shard: UserShard | None, folder: str | None = None) -> Mapping[FilePath, FileRecord]:
        """The files that a process with the users of one shard and with one folder needs; None: with all."""
        count = 0 if shard is None else shard.count
        others = tuple(piece(index, count) for index in range(count) if UserShard(index, count) != shard)
        return {
            path: record
            for path, record in self.files.items()
            if path.startswith(f"{folder}/" if folder else "") and not path.endswith(others)
        }


def piece(index: int, count: int) -> str:
    """What the names of a shard's files end with, as `ratings-0-of-2.npz`; `.npz` where there is one."""
    return f"-{index}-of-{count}.npz" if count > 1 else ".npz"


def bundle_id_of(files: Mapping[str, FileRecord]) -> str:
    """The bundle_id that these files give: equal contents, equal id."""
    pairs = "".join(f"{path}\0{record.sha256}\n" for path, record in sorted(files.items()))
    return hashlib.sha256(pairs.encode()).hexdigest()[:16]
