"""Classifiers that learn from images: how they learn, which of them is the strongest, how well they do."""
