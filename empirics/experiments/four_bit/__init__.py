"""The experiment of ``quantgap run four-bit``; `experiment.run` runs it."""
