"""What a trainer can be told."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Config:
    """Read from TRINE_<FIELD>."""

    grpc_address: str
    metrics_address: str
    mesh_token: str = field(repr=False)
    artifacts_url: str
    scheduler_address: str
    triplets_address: str
    device: str = "auto"
    """"auto" takes a GPU if there is one; "cpu" and "cuda" are as they say."""
