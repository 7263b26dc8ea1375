"""How the candidate service runs."""

from pydantic_settings import SettingsConfigDict

from serving.bundle import SETTLE_SECONDS
from serving.settings import Port, Seconds, ServerSettings, ShardSetting


class CandidateSettings(ServerSettings):
    """Read from MOVIEREC_CANDIDATE_ and the name of the field."""

    model_config = SettingsConfigDict(env_prefix="MOVIEREC_CANDIDATE_")

    port: Port = 50_052
    """Port of the gRPC server."""
    metrics_port: Port = 9_102
    """Port of the Prometheus endpoint, plain HTTP on the same address."""
    settle_delay_seconds: Seconds = SETTLE_SECONDS
    """How long after a bundle was published it answers here: ranking and the gateway must hold it by then."""
    settle_at_start: bool = False
    """Whether a server that has just started waits as well: yes where it starts beside others that serve."""
    user_shard: ShardSetting = None
    """Whose users are served, as `0/2`: others, and bundles in other shards, are refused; unset: all."""
    keep_previous: bool = False
    """Whether to hold the bundle before as well, for clients that name it. Takes as much memory again."""
