"""Runs the gateway: python -m services.gateway."""

from services.chassis.server import run
from services.gateway.config import Config
from services.gateway.wiring import run_gateway

if __name__ == "__main__":
    run("gateway", Config, run_gateway)
