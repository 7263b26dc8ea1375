"""A request that names a bundle which is not served is refused, and told which are."""

import pytest

from gateway.lists.bundles import require_bundles
from gateway.requests import PersonalRequest
from serving.errors import InvalidArgumentError, UnavailableError
from tests.gateway.small_world import BUNDLE, OTHER_BUNDLE, HeldCatalogues, World, catalogue

RULE = f"must be empty, or a bundle that is served: {OTHER_BUNDLE}, {BUNDLE}"


async def test_one_request() -> None:
    world = World(catalogue(OTHER_BUNDLE), catalogue())
    with pytest.raises(InvalidArgumentError) as error:
        await world.api.personal(PersonalRequest(user_id=100, bundle_id="gone"), None)
    assert [(one.field, one.description) for one in error.value.violations] == [("bundle_id", RULE)]
    assert not world.candidates.queries


async def test_a_batch_names_the_request() -> None:
    world = World(catalogue(OTHER_BUNDLE), catalogue())
    requests = [PersonalRequest(user_id=100, bundle_id=bundle_id) for bundle_id in (BUNDLE, "gone", "")]
    with pytest.raises(InvalidArgumentError) as error:
        await world.api.personal_batch(requests, None)
    assert [one.field for one in error.value.violations] == ["requests[1].bundle_id"]
    assert not world.candidates.queries


def test_those_that_are_held_are_let_through() -> None:
    held = HeldCatalogues([catalogue(OTHER_BUNDLE), catalogue()])
    require_bundles(held, {"": "", "requests[0].": BUNDLE, "requests[1].": OTHER_BUNDLE})


def test_without_a_bundle_it_is_unavailable() -> None:
    with pytest.raises(UnavailableError):
        require_bundles(HeldCatalogues(), {"": BUNDLE})
    require_bundles(HeldCatalogues(), {"": ""})  # which names none: whoever needs one will say so
