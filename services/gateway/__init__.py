"""The edge: tenants, their API keys, and the health of the mesh as outsiders see it."""
