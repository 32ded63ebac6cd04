"""Runs serving: python -m services.serving."""

from services.chassis.server import run
from services.serving.config import Config
from services.serving.wiring import run_serving

if __name__ == "__main__":
    run("serving", Config, run_serving)
