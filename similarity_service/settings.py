"""How the similarity service runs."""

from pydantic_settings import SettingsConfigDict

from serving.bundle import SETTLE_SECONDS
from serving.settings import Port, Seconds, ServerSettings


class SimilaritySettings(ServerSettings):
    """Read from MOVIEREC_SIMILARITY_ and the name of the field."""

    model_config = SettingsConfigDict(env_prefix="MOVIEREC_SIMILARITY_")

    port: Port = 50_054
    """Port of the gRPC server."""
    metrics_port: Port = 9_104
    """Port of the Prometheus endpoint, plain HTTP on the same address."""
    settle_delay_seconds: Seconds = SETTLE_SECONDS
    """How long after a bundle was published it answers here: ranking and the gateway must hold it by then."""
    settle_at_start: bool = False
    """Whether a server that has just started waits as well: yes where it starts beside others that serve."""
