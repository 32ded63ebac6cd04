"""What the scheduler can be told."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Config:
    """Read from TRINE_<FIELD>."""

    grpc_address: str
    metrics_address: str
    mesh_token: str = field(repr=False)
    postgres_dsn: str = field(repr=False)
    nats_url: str = field(repr=False)
    gateway_address: str
    triplets_address: str
    artifacts_url: str
    bundle_public_key: str
    """Keys that may have signed heads, with commas between them: two while one is replaced."""
    triplets_budget: int = 1_000
    cool_down_seconds: float = 3_600.0
    lease_seconds: float = 30.0
    rates: str = "*=1000"
    """Calls per second and tenant, by the scope that they need; "*" is every other."""
    calls_at_once: int = 256
    """From outside, of all tenants; more are told to come again."""
    nats_monitor_url: str = ""
    """Where NATS says how it runs: whether it keeps what it acknowledges. Empty: nobody looks."""
    tls_cert: str = ""
    """Files in PEM of one's own certificate, its key, and the mesh's authority; all or none."""
    tls_key: str = ""
    tls_ca: str = ""
