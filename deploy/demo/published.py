"""What the tour compares answers with: the published bundle, read from its files and not from a server."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serving.bundle.catalogue import CatalogueContent, read_movies
from serving.bundle.sources import SourcesRecord
from serving.bundle.store import BundleStore


@dataclass(frozen=True)
class PublishedBundle:
    """The bundle that every answer must come from."""

    bundle_id: str
    titles: Mapping[int, str]
    """Of all its movies, by their ids."""
    genres: frozenset[str] = frozenset()
    """Those that a filter may name."""
    least_history: int = 0
    """Ratings below which a user gets what is popular."""

    @classmethod
    def read(cls, root: Path, bundle_id: str) -> "PublishedBundle":
        """Reads the catalogue, and whom the models serve.

        Raises:
            BundleError: it is missing or damaged.
        """
        store = BundleStore(root)
        folder = store.folder(bundle_id, "gateway")
        movies = read_movies(folder)
        titles = zip(movies.ids.ids.tolist(), CatalogueContent.read(folder).titles, strict=True)
        sources = SourcesRecord.read(store.folder(bundle_id, "candidate"))
        return cls(bundle_id, dict(titles), frozenset(movies.used_genres), sources.least_history)

    def has(self, movie_id: int, title: str) -> bool:
        """Whether this is one of its movies: another data set may use the same id for another movie."""
        return self.titles.get(movie_id) == title
