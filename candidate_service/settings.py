"""How the candidate service runs."""

from pydantic_settings import SettingsConfigDict

from serving.settings import Port, ServerSettings


class CandidateSettings(ServerSettings):
    """Read from MOVIEREC_CANDIDATE_ and the name of the field."""

    model_config = SettingsConfigDict(env_prefix="MOVIEREC_CANDIDATE_")

    port: Port = 50_052
    """Port of the gRPC server."""
    metrics_port: Port = 9_102
    """Port of the Prometheus endpoint, plain HTTP on the same address."""
