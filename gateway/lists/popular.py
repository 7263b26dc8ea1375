"""The most popular movies, of the catalogue in memory."""

import secrets
from itertools import repeat

import numpy as np

from gateway.fallback import Model
from gateway.lists.catalogue import Catalogue
from gateway.lists.list_builder import Item, ListAnswer
from gateway.requests import PopularRequest
from serving.ids import Ids


def popular_list(catalogue: Catalogue, request: PopularRequest, seen_elsewhere: Ids) -> ListAnswer:
    """The whole catalogue by popularity, or by what is trending: the page that a checked request asks for.

    Args:
        catalogue: what answers.
        request: the request.
        seen_elsewhere: what the user of the request has seen, where the catalogue does not know it.
    """
    blocked = catalogue.blocked(
        request.movie_filter,
        seen_by_user_id=request.exclude_seen_by_user_id,
        exclude_movie_ids=seen_elsewhere,
    )
    page = catalogue.most_popular(blocked, request.limit, offset=request.offset, trending=request.trending)
    model = Model.TRENDING if request.trending else Model.POPULARITY_FALLBACK
    return ListAnswer(
        items=tuple(map(Item, page.movie_rows.tolist(), page.scores.tolist(), repeat(model))),
        catalogue=catalogue,
        model=model,
        bundle_id=catalogue.bundle_id,
        recommendation_id=secrets.token_hex(16),
        first_rank=request.offset + 1,
        total_size=blocked.size - int(np.count_nonzero(blocked)),
    )
