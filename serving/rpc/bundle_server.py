"""A process that answers from bundles: all that the stages have in common."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NoReturn, TypeVar

from google.protobuf.descriptor import ServiceDescriptor
from grpc import aio

from serving.bundle.holder import BundleHolder
from serving.bundle.signature import KeyFileError, TrustedKeys
from serving.bundle.store import BundleStore
from serving.limiter import CallCost
from serving.logs import configure_logs
from serving.rpc.metrics import ServerMetrics, exposed
from serving.rpc.server import EVERY_CALL_ALIKE, run, running, serve_until_stopped
from serving.rpc.tracing_setup import traced
from serving.settings import ServerSettings, StartError
from serving.shards import UserShard

Model = TypeVar("Model")


def open_store(settings: ServerSettings, user_shard: UserShard | None = None) -> BundleStore:
    """The bundles that a process may load, with the users of one shard or of all.

    Raises:
        StartError: the file of keys cannot be used.
    """
    file = settings.bundle_key_file
    try:
        trusted = None if file is None else TrustedKeys.read(file)
    except KeyFileError as error:
        raise StartError(f"{settings.variable('bundle_key_file')}: {error}") from error
    return BundleStore(settings.bundle_root, trusted=trusted, user_shard=user_shard)


def serve_bundle(
    name: str,
    settings: ServerSettings,
    *,
    load: Callable[[BundleStore, str], Model],
    service: ServiceDescriptor,
    register: Callable[[BundleHolder[Model], ServerMetrics, aio.Server], None],
    call_costs: Callable[[BundleHolder[Model]], Mapping[str, CallCost]] = lambda _: EVERY_CALL_ALIKE,
    user_shard: UserShard | None = None,
    keep_previous: bool = False,
    settle_seconds: float = 0.0,
    settle_at_start: bool = False,
) -> NoReturn:
    """Serves from the bundle that the pointer names, until a signal asks to stop: the process ends here.

    Args:
        name: of this process, in logs, metrics and traces.
        settings: how it runs.
        load: reads and checks a bundle.
        service: what it serves.
        register: adds the servicer, which answers from the bundles, to the server.
        call_costs: gives what calls ask of the limiter, by method, where it is not one user.
        user_shard: whose users it serves; None: everybody.
        keep_previous: whether to answer from the bundle before as well.
        settle_seconds: how long after a bundle was published it becomes current here.
        settle_at_start: whether that holds for the first bundle as well.
    """

    async def serve() -> None:
        metrics = ServerMetrics.create(name)
        bundles = BundleHolder(
            open_store(settings, user_shard),
            load,
            load_counter=metrics.bundle_loads,
            info=metrics.bundle_info,
            poll_seconds=settings.bundle_poll_seconds,
            keep_previous=keep_previous,
            settle_seconds=settle_seconds,
            settle_at_start=settle_at_start,
        )
        with exposed(metrics, settings), traced(name) as tracing:
            async with bundles.loading():
                await serve_until_stopped(
                    lambda at_once: running(
                        settings,
                        register=partial(register, bundles, metrics),
                        service_names=[service.full_name],
                        metrics=metrics,
                        ready=bundles.loaded,
                        alive=bundles.is_alive,
                        call_costs=call_costs(bundles),
                        tracing=tracing,
                        stop_at_once=at_once,
                    )
                )

    configure_logs(name, settings.log_level)
    run(serve())
