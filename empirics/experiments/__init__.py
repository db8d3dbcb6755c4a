"""Experiments on a checkpoint: one module for each command of ``quantgap run``."""
