"""The most popular movies: from the gateway's memory alone."""

import secrets

import numpy as np

from gateway.fallback import Model
from gateway.lists.catalogue import Catalogues
from gateway.lists.list_builder import ListAnswer, ListBuilder
from gateway.requests import PopularRequest


class PopularLists:
    """Lists the whole catalogue by popularity.

    Args:
        catalogues: the current one answers.
    """

    def __init__(self, catalogues: Catalogues) -> None:
        self._catalogues = catalogues

    def answer(self, request: PopularRequest) -> ListAnswer:
        """The list for a checked request.

        Raises:
            UnavailableError: no bundle is loaded.
        """
        catalogue = self._catalogues.get()
        blocked = catalogue.blocked(request.movie_filter, seen_by_user_id=request.exclude_seen_by_user_id)
        total_size = blocked.size - int(np.count_nonzero(blocked))  # before the builder marks what it takes
        builder = ListBuilder(catalogue, blocked, request.limit)
        page = catalogue.most_popular(blocked, request.limit, offset=request.offset)
        builder.take(Model.POPULARITY_FALLBACK, page)
        return ListAnswer(
            items=tuple(builder.items),
            catalogue=catalogue,
            model=Model.POPULARITY_FALLBACK,
            bundle_id=catalogue.bundle_id,
            recommendation_id=secrets.token_hex(16),
            first_rank=request.offset + 1,
            total_size=total_size,
        )
