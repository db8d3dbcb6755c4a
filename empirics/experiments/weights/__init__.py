"""The experiment of ``quantgap run weights``; `experiment.run` runs it."""
