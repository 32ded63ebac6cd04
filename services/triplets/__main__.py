"""Runs the triplet store: python -m services.triplets."""

from services.chassis.server import run
from services.triplets.config import Config
from services.triplets.wiring import run_triplets

if __name__ == "__main__":
    run("triplets", Config, run_triplets)
