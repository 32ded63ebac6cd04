"""Runs a trainer: python -m services.trainer."""

from services.chassis.environment import read_environment
from services.chassis.server import run
from services.chassis.telemetry import configure_logging
from services.trainer.config import Config
from services.trainer.wiring import run_trainer

if __name__ == "__main__":
    run(configure_logging("trainer"), run_trainer(read_environment(Config)))
