"""Experiments on a checkpoint: a folder for each command of ``quantgap run``."""
