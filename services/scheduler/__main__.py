"""Runs the scheduler: python -m services.scheduler."""

from services.chassis.environment import read_environment
from services.chassis.server import run
from services.chassis.telemetry import configure_logging
from services.scheduler.config import Config
from services.scheduler.wiring import run_scheduler

if __name__ == "__main__":
    run(configure_logging("scheduler"), run_scheduler(read_environment(Config)))
