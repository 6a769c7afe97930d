"""Answers about generated images: are they good, new and useful, and which of them to keep."""
