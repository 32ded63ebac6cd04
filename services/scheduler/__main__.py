"""Runs the scheduler: python -m services.scheduler."""

from services.chassis.server import run
from services.scheduler.config import Config
from services.scheduler.wiring import run_scheduler

if __name__ == "__main__":
    run("scheduler", Config, run_scheduler)
