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
    upload_bytes_max: int = 8 * 1024**3
    """Of a file that comes in parts."""
    wandb_dir: str = "wandb"
    """Folder of the runs that jobs' integrations ask for."""
    webhook_networks: str = ""
    """Networks such as "10.0.0.0/8,127.0.0.0/8" that webhooks may reach beside public addresses."""
    rates: str = "*=1000"
    """Calls per second and tenant, by the scope that they need; "*" is every other."""
    calls_at_once: int = 256
    """From outside, of all tenants; more are told to come again."""
    tls_cert: str = ""
    """Files in PEM of one's own certificate, its key, and the mesh's authority; all or none."""
    tls_key: str = ""
    tls_ca: str = ""
