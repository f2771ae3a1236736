"""Layers and initialisation that several architectures share."""
