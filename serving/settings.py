"""How a server runs: one frozen model per process, read from the environment and checked once."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from serving.shards import UserShard

Port: TypeAlias = Annotated[int, Field(ge=0, le=65_535)]
"""A TCP port; 0: any free one."""

Seconds: TypeAlias = Annotated[float, Field(ge=0, le=3_600, allow_inf_nan=False)]
"""A span of time."""

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
"""The least important events to log."""

MaxInflight: TypeAlias = Annotated[int, Field(ge=1, le=10_000)]
"""Users at work at once."""

ShardSetting: TypeAlias = Annotated[
    UserShard | None, NoDecode, BeforeValidator(lambda text: UserShard.of_text(text) if text else None)
]
"""Whose users a server holds, as `k/N`; none: everybody."""


class StartError(Exception):
    """The process cannot start with these settings. The message names the setting to change."""


class ServerSettings(BaseSettings):
    """What every server needs to know. Each process adds a prefix, its ports and its own fields."""

    model_config = SettingsConfigDict(
        frozen=True,
        use_attribute_docstrings=True,
        env_ignore_empty=True,  # a compose file's ${UNSET:-} means unset
    )

    bundle_root: Path
    """Directory that holds the bundles and the pointer to the current one."""
    bundle_key_file: Path | None = None
    """Public Ed25519 keys in PEM; when set, a bundle that none of them has signed is refused."""
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all."""
    port: Port
    """Port of the gRPC server."""
    metrics_port: Port
    """Port of the Prometheus endpoint, plain HTTP on the same address."""
    reflection: bool = True
    """Whether clients may ask for the API's descriptors; off in production."""
    tls_certificate_file: Path | None = None
    """Certificate of this server in PEM, with those between it and its authority; unset: plain text."""
    tls_key_file: Path | None = None
    """Its private key in PEM, without a passphrase."""
    tls_client_ca_file: Path | None = None
    """Authorities in PEM; when set, clients must show a certificate of theirs."""
    log_level: Annotated[LogLevel, BeforeValidator(str.lower)] = "info"
    """The least important events to log."""
    drain_delay_seconds: Seconds = 2.0
    """How long to answer on after a stop signal, health NOT_SERVING: until callers have noticed."""
    drain_seconds: Seconds = 10.0
    """How long calls in flight may run after that; longer than any deadline."""
    bundle_poll_seconds: Annotated[Seconds, Field(gt=0)] = 5.0
    """How often to look whether another bundle was published."""
    max_request_bytes: Annotated[int, Field(ge=1_024)] = 4 * 1_024 * 1_024
    """Size of the largest request; larger ones are RESOURCE_EXHAUSTED."""
    max_inflight: MaxInflight = 256
    """Users at work at once, of all calls. As many may wait; whoever comes then is RESOURCE_EXHAUSTED."""

    @classmethod
    def variable(cls, field: str) -> str:
        """The environment variable that sets a field."""
        return f"{cls.model_config.get('env_prefix', '')}{field}".upper()


SettingsOfProcess = TypeVar("SettingsOfProcess", bound=ServerSettings)


def load_settings(settings_class: type[SettingsOfProcess]) -> SettingsOfProcess:
    """Settings from the environment; or one line on stderr that names each bad variable, and exit 2."""
    nothing_but_environment: dict[str, Any] = {}
    try:
        return settings_class(**nothing_but_environment)
    except ValidationError as error:
        problems = [
            f"{settings_class.variable(str(e['loc'][0]))}: {_rule(e['type'], e['msg'])}"
            for e in error.errors(include_url=False, include_input=False)
        ]
    print("; ".join(problems), file=sys.stderr)  # noqa: T201  # no log is set up yet
    raise SystemExit(2)


def _rule(kind: str, message: str) -> str:
    message = message.removeprefix("Value error, ")  # of pydantic, before what a validator of ours says
    return "is required" if kind == "missing" else f"{message[:1].lower()}{message[1:]}"
