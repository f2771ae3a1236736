"""Layers of the architectures.

scratch.py: hand-written recurrent layers. blocks.py: residual blocks of minGRU, minLSTM and Mamba-2; scan.py: their
recurrence in parallel. attention.py: of the transformer. dropout.py and init.py: dropout and initialisation.
"""
