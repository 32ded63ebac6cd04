"""The data plane: promoted heads, candidates and encoder in memory, and the matches they give."""
