"""The loops, and what goes on around them: checks, checkpoints, evaluation."""
