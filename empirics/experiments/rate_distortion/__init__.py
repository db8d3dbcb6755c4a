"""The experiment of ``quantgap run rate-distortion``; `experiment.run` runs it."""
