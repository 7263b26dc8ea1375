"""How the gateway runs, read from MOVIEREC_GATEWAY_* variables."""

import math
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from gateway.stages.batch_queue import BatchLimits
from gateway.stages.deadlines import Budgets, StageBudget
from serving.settings import MaxInflight, Port, Seconds, ServerSettings
from serving.shards import MAX_USER_SHARDS
from serving.stages.stage import StageName

Share = Annotated[float, Field(gt=0, le=1)]
"""A part of what is left of a request's time."""

Target = Annotated[str, Field(min_length=1)]
"""Where a stage, or the proxy before it, is found: `host:port`."""

Budget = Annotated[Seconds, Field(gt=0)]
"""A span of time in which something can be done: with none, every list would be degraded."""

MaxCalls = Annotated[int, Field(ge=1, le=1_000)]
"""Calls that may be out at once."""


class GatewaySettings(ServerSettings):
    """How the gateway runs."""

    model_config = SettingsConfigDict(env_prefix="MOVIEREC_GATEWAY_")

    port: Port = 50051
    """Port of the gRPC server."""
    metrics_port: Port = 9101
    """Port of the Prometheus endpoint, plain HTTP on the same address."""
    max_request_bytes: Annotated[int, Field(ge=1_024)] = 1_024 * 1_024
    """Size of the largest request; larger ones are RESOURCE_EXHAUSTED."""
    max_inflight: MaxInflight = 64
    """Users at work at once, of all calls. As many may wait; whoever comes then is RESOURCE_EXHAUSTED."""

    candidate_target: Target = "127.0.0.1:50052"
    """Where the candidate service is found."""
    ranking_target: Target = "127.0.0.1:50053"
    """Where the ranking service is found."""
    similarity_target: Target = "127.0.0.1:50054"
    """Where the similarity service is found."""
    stage_ca_file: Path | None = None
    """Authorities in PEM whose certificates the stages show; unset: they are called in plain text."""
    stage_certificate_file: Path | None = None
    """Certificate in PEM to show them, with those between it and its authority."""
    stage_key_file: Path | None = None
    """Its private key in PEM, without a passphrase."""
    batch_concurrency: Annotated[int, Field(ge=1, le=100)] = 32
    """Users of one batch that are at work at once."""

    candidate_max_calls: MaxCalls = 1
    """Calls to the candidate service before queries wait for each other; as many as it has replicas."""
    ranking_max_calls: MaxCalls = 1
    """The same for the ranking service."""
    user_shards: Annotated[int, Field(ge=1, le=MAX_USER_SHARDS)] = 1
    """Over how many shards candidate and ranking split the users, as the bundle does.

    Above 1, no ratings are held here: what users have seen comes with their candidates, and GetUser is off.
    """
    call_max_queries: Annotated[int, Field(ge=1, le=100)] = 32
    """Most queries that share one call."""
    call_hold_seconds: Seconds = 0.05
    """A call that takes longer keeps no other waiting."""
    why_movie: bool = True
    """Whether WhyMovie and GetUser answer.

    They reveal what users have watched: off at an edge without authentication.
    """

    request_seconds: Seconds = 0.8
    """Longest time for one answer; a client may set less."""
    batch_seconds: Seconds = 1.8
    """Longest time for the answer to a batch; a client may set less."""
    reserve_seconds: Seconds = 0.02
    """What is kept back to assemble an answer; with less left on arrival, nothing is begun."""
    candidate_seconds: Budget = 0.15
    """Longest wait for candidates, in seconds."""
    candidate_share: Share = 0.4
    """Largest part of the time left that the wait may take."""
    ranking_seconds: Budget = 0.25
    """Longest wait for ranking, in seconds."""
    ranking_share: Share = 0.8
    """Largest part of the time left that the wait may take."""
    similarity_seconds: Budget = 0.15
    """Longest wait for neighbours, in seconds."""
    similarity_share: Share = 0.8
    """Largest part of the time left that the wait may take."""

    @field_validator("reserve_seconds")
    @classmethod
    def _leaves_time(cls, reserve_seconds: float, others: ValidationInfo) -> float:
        """Else the gateway would look healthy, and refuse every request as DEADLINE_TOO_SHORT."""
        longest = (others.data.get(name, math.inf) for name in ("request_seconds", "batch_seconds"))
        if reserve_seconds >= min(longest):
            raise ValueError("should be less than request_seconds and batch_seconds")
        return reserve_seconds

    def batch_limits(self, max_calls: int) -> BatchLimits:
        """When queries for a stage that takes so many calls wait for each other."""
        return BatchLimits(
            max_calls=max_calls, max_queries=self.call_max_queries, hold_seconds=self.call_hold_seconds
        )

    @property
    def budgets(self) -> Budgets:
        """The deadline tree."""
        stages = {
            StageName.CANDIDATE: StageBudget(self.candidate_seconds, self.candidate_share),
            StageName.RANKING: StageBudget(self.ranking_seconds, self.ranking_share),
            StageName.SIMILARITY: StageBudget(self.similarity_seconds, self.similarity_share),
        }
        return Budgets(
            request=self.request_seconds,
            batch=self.batch_seconds,
            reserve=self.reserve_seconds,
            stages=MappingProxyType(stages),
        )
