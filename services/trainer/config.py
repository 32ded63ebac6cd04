"""What a trainer can be told."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Config:
    """Read from TRINE_<FIELD>."""

    grpc_address: str
    metrics_address: str
    mesh_token: str = field(repr=False)
    artifacts_url: str
    bundle_signing_key: str = field(repr=False)
    """Signs heads. Trainers alone have it."""
    bundle_public_key: str
    """Keys that may have signed heads, with commas between them: two while one is replaced."""
    scheduler_address: str
    triplets_address: str
    device: str = "auto"
    """"auto" takes a GPU if there is one; "cpu" and "cuda" are as they say."""
    tls_cert: str = ""
    """Files in PEM of one's own certificate, its key, and the mesh's authority; all or none."""
    tls_key: str = ""
    tls_ca: str = ""
