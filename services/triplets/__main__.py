"""Runs the triplet store: python -m services.triplets."""

from services.chassis.environment import read_environment
from services.chassis.server import run
from services.chassis.telemetry import configure_logging
from services.triplets.config import Config
from services.triplets.wiring import run_triplets

if __name__ == "__main__":
    run(configure_logging("triplets"), run_triplets(read_environment(Config)))
