"""Runs a trainer: python -m services.trainer."""

from services.chassis.server import run
from services.trainer.config import Config
from services.trainer.wiring import run_trainer

if __name__ == "__main__":
    run("trainer", Config, run_trainer)
