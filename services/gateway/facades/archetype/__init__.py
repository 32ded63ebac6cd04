"""Archetype's contract for files and fine-tune jobs."""
