"""The launcher: the whole mesh on one machine, and the command line that talks to it."""
