"""The five services of the mesh, their chassis, and the launcher that runs them on one machine."""

import os

# onnxruntime's wheels report the models that they open to their maker's servers unless told not to,
# and keep a thread for it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
