"""The experiment of ``quantgap run clipping``; `experiment.run` runs it."""
