"""The experiment of ``quantgap run slope``; `experiment.run` runs it."""
