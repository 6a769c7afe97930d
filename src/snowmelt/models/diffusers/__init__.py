"""Diffusers' folders as checkpoints, both ways, without diffusers. No pickle is ever opened."""
