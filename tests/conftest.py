"""Hypothesis profiles: `ci` is the same examples each time, HYPOTHESIS_PROFILE=deep is many new ones."""

import os

from hypothesis import HealthCheck, settings

quiet = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("ci", derandomize=True, max_examples=40, deadline=None, suppress_health_check=quiet)
settings.register_profile("deep", max_examples=1000, deadline=None, suppress_health_check=quiet, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
