"""What the gateway can be told."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Config:
    """Read from TRINE_<FIELD>."""

    grpc_address: str
    http_address: str
    metrics_address: str
    mesh_token: str = field(repr=False)
    artifacts_url: str
    postgres_dsn: str = field(repr=False)
    scheduler_address: str
    triplets_address: str
    serving_address: str
    webhook_networks: str = ""
    """Networks such as "10.0.0.0/8,127.0.0.0/8" that webhooks may reach beside public addresses."""
