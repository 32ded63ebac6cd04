"""What the triplet store can be told."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Config:
    """Read from TRINE_<FIELD>."""

    grpc_address: str
    metrics_address: str
    mesh_token: str = field(repr=False)
    postgres_dsn: str = field(repr=False)
    artifacts_url: str
    gateway_address: str
    serving_address: str
    encoder: str = "all-minilm-l6-v2"
    encoder_dim: int = 384
    reader_url: str = ""
    """Where an endpoint speaks the OpenAI chat protocol, up to /v1; none means no reader."""
    reader_model: str = ""
    reader_key: str = field(default="", repr=False)
    reader_seconds: float = 3.0
    """For each of its two attempts."""
    rates: str = "*=2000"
    """Calls per second and tenant, by the scope that they need; "*" is every other."""
    calls_at_once: int = 256
    """From outside, of all tenants; more are told to come again."""
    tls_cert: str = ""
    """Files in PEM of one's own certificate, its key, and the mesh's authority; all or none."""
    tls_key: str = ""
    tls_ca: str = ""
