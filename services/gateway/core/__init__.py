"""Rules about tenants and keys. No I/O."""
