"""How the ranking service runs."""

from pydantic_settings import SettingsConfigDict

from serving.settings import Port, ServerSettings, ShardSetting


class RankingSettings(ServerSettings):
    """Read from MOVIEREC_RANKING_ and the name of the field."""

    model_config = SettingsConfigDict(env_prefix="MOVIEREC_RANKING_")

    port: Port = 50_053
    """Port of the gRPC server."""
    metrics_port: Port = 9_103
    """Port of the Prometheus endpoint, plain HTTP on the same address."""
    user_shard: ShardSetting = None
    """Whose users are served, as `0/2`: others, and bundles in other shards, are refused; unset: all."""
