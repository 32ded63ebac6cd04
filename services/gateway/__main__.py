"""Runs the gateway: python -m services.gateway."""

from services.chassis.environment import read_environment
from services.chassis.server import run
from services.chassis.telemetry import configure_logging
from services.gateway.config import Config
from services.gateway.wiring import run_gateway

if __name__ == "__main__":
    run(configure_logging("gateway"), run_gateway(read_environment(Config)))
