"""What serving can be told."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Config:
    """Read from TRINE_<FIELD>."""

    grpc_address: str
    metrics_address: str
    mesh_token: str = field(repr=False)
    nats_url: str = field(repr=False)
    artifacts_url: str
    bundle_public_key: str
    """Keys that may have signed heads, with commas between them: two while one is replaced."""
    gateway_address: str
    scheduler_address: str
    triplets_address: str
    encoder_path: str
    encoder: str = "all-minilm-l6-v2"
    encoder_threads: int = 2
    match_threads: int = 2
    judge_url: str = ""
    """Where an endpoint speaks the OpenAI chat protocol, up to /v1; none means no judge."""
    judge_model: str = ""
    judge_key: str = field(default="", repr=False)
    judge_seconds: float = 3.0
    rates: str = "*=5000"
    """Calls per second and tenant, by the scope that they need; "*" is every other."""
    calls_at_once: int = 256
    """From outside, of all tenants; more are told to come again."""
    tls_cert: str = ""
    """Files in PEM of one's own certificate, its key, and the mesh's authority; all or none."""
    tls_key: str = ""
    tls_ca: str = ""
