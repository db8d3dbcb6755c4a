"""The experiment of ``quantgap run kurtosis``; `experiment.run` runs it."""
