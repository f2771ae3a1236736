"""Defaults and choices of sampling, shared by Python and the command line; this module imports nothing."""

LENGTH, TEMPERATURE = 500, 0.8  # characters; softmax temperature
CACHE_MODELS = ("prompt", "own", "off")  # characters that cache models count while sampling
