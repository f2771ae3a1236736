"""One time step of each recurrence, written once for numpy and PyTorch.

Read first: gru.py.
"""
