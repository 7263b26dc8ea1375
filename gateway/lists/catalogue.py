"""What the gateway holds in memory of one bundle: enough for a list when no other service answers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from textwrap import shorten
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from serving.bundle.catalogue import CatalogueContent, read_movies
from serving.bundle.factors import SeenMovies, read_ratings, read_seen_movies
from serving.bundle.holder import BundleHolder
from serving.bundle.lists import ListsContent
from serving.bundle.manifest import Manifest
from serving.bundle.store import BundleError, BundleStore
from serving.bundle.titles import TitleIndex
from serving.errors import FieldViolation, InvalidArgumentError, NotFoundError, Reason
from serving.explanations import Explanation
from serving.filters import MovieFilter, left_out
from serving.ids import NO_IDS, NO_ROWS, Ids, Rows
from serving.movies import UNKNOWN_YEAR, Movies
from serving.ratings import Ratings
from serving.similarity import genre_jaccard
from serving.sources import Source

FOLDER: Final = "gateway"
"""The gateway's part of a bundle."""
_MAX_GENRES_CHARACTERS: Final = 500
"""Of the list of genres in an error: 64 long names would not fit into a status."""


@dataclass(frozen=True)
class Movie:
    """A catalogue entry, as a client sees it: the fields are those of the public message."""

    movie_id: int
    title: str
    year: int | None
    genres: tuple[str, ...]
    rating_count: int
    rating_mean: float | None
    tmdb_id: int | None


class LikedMovie(NamedTuple):
    """A movie that the user liked, as a reason for another."""

    movie_id: int
    title: str
    weight: float
    """What it adds to the other's ALS score; positive."""


@dataclass(frozen=True)
class ScoredMovies:
    """Movies that one model put in order, best first. Sequences of one length."""

    movie_rows: Rows
    scores: npt.NDArray[np.floating]
    bundle_id: str
    """Where the order comes from."""
    explanations: Sequence[Explanation] = ()
    """One per movie, or none at all, as in what follows."""
    because_of: Sequence[tuple[LikedMovie, ...]] = ()
    """The movies that speak most for each, most first."""
    candidate_sources: Sequence[tuple[Source, ...]] = ()
    """What offered each as a candidate."""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The movies of one bundle, their popularity, and who has seen what. Immutable.

    Raises:
        BundleError: its parts are not of one length, or hold numbers that no answer may show.
    """

    bundle_id: str
    movies: Movies
    content: CatalogueContent
    lists: ListsContent
    titles: TitleIndex
    seen: SeenMovies | None
    """None where users are split over shards: the candidate service tells of each what they have seen."""
    manifest: Manifest
    ratings: Ratings | None = None
    """Stars and times as well, 12 bytes a rating more; none where nobody may ask for them."""

    def __post_init__(self) -> None:
        n_movies = len(self.movies.ids)
        content = self.content
        of_movies = (
            *(content.tmdb_ids, content.rating_counts, content.rating_means, content.popularity),
            self.lists.trending,
        )
        if len(content.titles) != n_movies or any(array.shape != (n_movies,) for array in of_movies):
            raise BundleError(f"bundle {self.bundle_id}: the catalogue's parts are not of one length")
        if not (np.isfinite(content.popularity).all() and np.isfinite(self.lists.trending).all()):
            raise BundleError(f"bundle {self.bundle_id}: a movie's popularity is not a number")
        seen_rows = NO_ROWS if self.seen is None else self.seen.movie_rows
        for rows, what in ((seen_rows, "ratings of"), (self.lists.taste_rows, "a list with")):
            if rows.size and not 0 <= rows.min() <= rows.max() < n_movies:
                raise BundleError(f"bundle {self.bundle_id}: {what} movies that the catalogue lacks")

    @classmethod
    def load(
        cls, store: BundleStore, bundle_id: str, *, with_ratings: bool = True, user_shards: int = 1
    ) -> "Catalogue":
        """Reads the gateway's part of a bundle.

        Args:
            store: where it lies.
            bundle_id: which.
            with_ratings: also reads stars and times of ratings, for GetUser.
            user_shards: over how many shards users are split; above 1, nothing of users is read.

        Raises:
            BundleError: it is missing, damaged, does not fit together, or has its users in other shards.
        """
        folder = store.folder(bundle_id, FOLDER)
        if user_shards > 1 and folder.manifest.user_shards != user_shards:
            raise BundleError(
                f"bundle {bundle_id}: its user_shards is {folder.manifest.user_shards}, and this gateway's "
                f"{user_shards}"
            )
        content = CatalogueContent.read(folder)
        ratings = read_ratings(folder) if with_ratings and user_shards == 1 else None
        seen = None
        if ratings is not None:
            seen = SeenMovies(ratings.users, ratings.indptr, ratings.movie_rows)
        elif user_shards == 1:
            seen = read_seen_movies(folder)
        catalogue = cls(
            bundle_id=bundle_id,
            movies=read_movies(folder),
            content=content,
            lists=ListsContent.read(folder),
            titles=TitleIndex.read(folder, content.popularity_order),
            seen=seen,
            manifest=folder.manifest,
            ratings=ratings,
        )
        # Computed now, or the first request would compute it on the event loop.
        _ = catalogue._trending_order, catalogue.movies.used_genres, catalogue.movies.names_by_bits
        _ = ratings is not None and ratings.is_timed
        return catalogue

    def row(self, movie_id: int) -> int:
        """The row of a movie.

        Raises:
            NotFoundError: the catalogue does not know it.
        """
        row = self.movies.ids.row(movie_id)
        if row < 0:
            raise NotFoundError(
                f"movie {movie_id} is not in the catalogue.",
                reason=Reason.UNKNOWN_MOVIE,
                resource_type="movie",
                resource_id=movie_id,
            )
        return row

    def movie(self, row: int) -> Movie:
        """One entry."""
        content = self.content
        year = self.movies.years.item(row)  # twice as fast as int(years[row]), and a page has 20 rows
        mean = content.rating_means.item(row)
        return Movie(
            movie_id=self.movies.ids.ids.item(row),
            title=content.titles[row],
            year=None if year == UNKNOWN_YEAR else year,
            genres=self.movies.genres_of(row),
            rating_count=content.rating_counts.item(row),
            rating_mean=mean if math.isfinite(mean) else None,
            tmdb_id=content.tmdb_ids.item(row) or None,
        )

    def title(self, movie_id: int) -> str:
        """Display title; of a movie that only another bundle knows, its id."""
        row = self.movies.ids.row(movie_id)
        return self.content.titles[row] if row >= 0 else f"movie {movie_id}"

    def blocked(
        self,
        movie_filter: MovieFilter,
        *,
        seen_by_user_id: int | None = None,
        exclude_movie_ids: Ids = NO_IDS,
    ) -> npt.NDArray[np.bool_]:
        """Shape (n_movies,), fresh: the movies that a list must leave out.

        Args:
            movie_filter: leaves out what does not match.
            seen_by_user_id: leaves out what this user has rated, where that is known here; none, or an
                unknown one: nothing.
            exclude_movie_ids: leaves out these; unknown ids are ignored.
        """
        out = left_out(self.movies, movie_filter, exclude_movie_ids)
        if seen_by_user_id is not None and self.seen is not None:
            out[self.seen.of(seen_by_user_id)] = True
        return out

    def seen_movie_ids(self, user_id: int) -> Ids:
        """The movies that a user has rated; none for an unknown user, or where nobody is known here."""
        return NO_IDS if self.seen is None else self.movies.ids.ids[self.seen.of(user_id)]

    @cached_property
    def _trending_order(self) -> Rows:
        """Shape (n_movies,): all rows, the most trending first; ties as by popularity."""
        by_popularity = self.content.popularity_order
        return by_popularity[np.argsort(-self.lists.trending[by_popularity], kind="stable")]

    def most_popular(
        self, blocked: npt.NDArray[np.bool_], limit: int, *, offset: int = 0, trending: bool = False
    ) -> ScoredMovies:
        """The most popular of what is not blocked; ties in ascending movie_id.

        Args:
            blocked: shape (n_movies,): what to leave out.
            limit: most movies to return.
            offset: movies to skip before.
            trending: the most trending instead; ties as by popularity.
        """
        order, scores = self.content.popularity_order, self.content.popularity
        if trending:
            order, scores = self._trending_order, self.lists.trending
        end = offset + limit
        rows = order[: end + np.count_nonzero(blocked)]  # at most these many are left out
        rows = rows[~blocked[rows]][offset:end]
        return ScoredMovies(rows, scores[rows], self.bundle_id)

    def alike_by_genre(self, row: int, blocked: npt.NDArray[np.bool_], limit: int) -> ScoredMovies:
        """What shares genres with a movie, the most shared first; ties by popularity, then movie_id.

        Movies that share none are not alike: a movie without genres has no such list.
        """
        jaccard = genre_jaccard(self.movies, row)
        rows = self.content.popularity_order
        rows = rows[(jaccard[rows] > 0) & ~blocked[rows]]
        if rows.size > limit:  # all that tie with the last place compete for it; the rest need no sorting
            values = jaccard[rows]
            rows = rows[values >= np.partition(values, values.size - limit)[values.size - limit]]
        rows = rows[np.argsort(-jaccard[rows], kind="stable")][:limit]
        return ScoredMovies(rows, jaccard[rows], self.bundle_id)


Catalogues: TypeAlias = BundleHolder[Catalogue]
"""The catalogues that are held now: of the current bundle, and of the one before."""


def catalogue_with(catalogues: Catalogues, movie_id: int) -> Catalogue:
    """The first catalogue that knows a movie; the current one when none does.

    Raises:
        UnavailableError: no bundle is loaded.
    """
    held = catalogues.held()
    return next((one for one in held if one.movies.ids.row(movie_id) >= 0), held[0])


def require_genres(catalogues: Catalogues, filters: Mapping[str, MovieFilter]) -> None:
    """Checks that the catalogue has the genres that filters name: another one is a mistake.

    A list may come from any bundle that is held: what one of them has is let through.

    Args:
        catalogues: those that are held.
        filters: by what stands before `filter` in the request, as `requests[1].`.

    Raises:
        InvalidArgumentError: it lacks some; all are named, and its metadata lists those that there are.
        UnavailableError: no bundle is loaded.
    """
    if not any(one.genres or one.exclude_genres for one in filters.values()):
        return
    genres = {name: None for held in catalogues.held() for name in held.movies.used_genres}
    known = {name.casefold() for name in genres}
    violations = [
        FieldViolation(
            f"{path}filter.{field}[{place}]", f"must be a genre of the catalogue, which has no {name!r}"
        )
        for path, movie_filter in filters.items()
        for field, names in (("genres", movie_filter.genres), ("exclude_genres", movie_filter.exclude_genres))
        for place, name in enumerate(names)
        if name.casefold() not in known
    ]
    if violations:
        listed = shorten(", ".join(genres), _MAX_GENRES_CHARACTERS, placeholder=" ...")
        raise InvalidArgumentError(violations, genres=listed)


def require_bundles(catalogues: Catalogues, bundle_ids: Mapping[str, str]) -> None:
    """Checks that the bundles which requests name are held.

    Args:
        catalogues: those that are held.
        bundle_ids: by what stands before `bundle_id` in the request; empty ones name none.

    Raises:
        InvalidArgumentError: some are not; all are named.
        UnavailableError: no bundle is loaded.
    """
    if not any(bundle_ids.values()):
        return
    held = [catalogue.bundle_id for catalogue in catalogues.held()]
    violations = [
        FieldViolation(f"{path}bundle_id", f"must be empty, or a bundle that is served: {', '.join(held)}")
        for path, bundle_id in bundle_ids.items()
        if bundle_id and bundle_id not in held
    ]
    if violations:
        raise InvalidArgumentError(violations)
