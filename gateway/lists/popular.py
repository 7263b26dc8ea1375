"""The most popular movies: from the gateway's memory alone."""

import secrets
from itertools import repeat

import numpy as np

from gateway.fallback import Model
from gateway.lists.catalogue import Catalogues
from gateway.lists.list_builder import Item, ListAnswer
from gateway.requests import PopularOrder, PopularRequest
from serving.ids import NO_IDS, Ids


class PopularLists:
    """Lists the whole catalogue by popularity, or by what is trending.

    Args:
        catalogues: the current one answers.
    """

    def __init__(self, catalogues: Catalogues) -> None:
        self._catalogues = catalogues

    def answer(self, request: PopularRequest, seen_elsewhere: Ids = NO_IDS) -> ListAnswer:
        """The list for a checked request.

        Args:
            request: the request.
            seen_elsewhere: what the user of the request has seen, where the catalogue does not know it.

        Raises:
            UnavailableError: no bundle is loaded.
        """
        catalogue = self._catalogues.get()
        blocked = catalogue.blocked(
            request.movie_filter,
            seen_by_user_id=request.exclude_seen_by_user_id,
            exclude_movie_ids=seen_elsewhere,
        )
        if request.order is PopularOrder.TRENDING:
            page = catalogue.most_trending(blocked, request.limit, offset=request.offset)
            model = Model.TRENDING
        else:
            page = catalogue.most_popular(blocked, request.limit, offset=request.offset)
            model = Model.POPULARITY_FALLBACK
        return ListAnswer(
            items=tuple(map(Item, page.movie_rows.tolist(), page.scores.tolist(), repeat(model))),
            catalogue=catalogue,
            model=model,
            bundle_id=catalogue.bundle_id,
            recommendation_id=secrets.token_hex(16),
            first_rank=request.offset + 1,
            total_size=blocked.size - int(np.count_nonzero(blocked)),
        )
