"""Diffusers' folders as checkpoints, both ways. They need json and safetensors only, and no pickle is opened."""
