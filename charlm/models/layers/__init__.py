"""Layers and initialisation shared by several architectures."""
