"""Runs serving: python -m services.serving."""

from services.chassis.environment import read_environment
from services.chassis.server import run
from services.chassis.telemetry import configure_logging
from services.serving.config import Config
from services.serving.wiring import run_serving

if __name__ == "__main__":
    run(configure_logging("serving"), run_serving(read_environment(Config)))
