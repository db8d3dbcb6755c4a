"""The experiment of ``quantgap run layers``; `experiment.run` runs it."""
