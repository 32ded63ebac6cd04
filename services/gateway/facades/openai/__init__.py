"""OpenAI's contract for files and fine-tuning, which TrueFoundry speaks too."""
