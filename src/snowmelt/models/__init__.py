"""Models: what predicts, and what was trained."""
