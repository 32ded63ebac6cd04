"""The five services of the mesh, their chassis, and the launcher that runs them on one machine."""
