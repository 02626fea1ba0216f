"""The tests of txsticky, for trial: ``trial tests``."""

from hypothesis import HealthCheck, settings

# How long an example takes says more of the machine than of the code.
settings.register_profile("txsticky", deadline=None, suppress_health_check=[HealthCheck.too_slow])
if settings.get_current_profile_name() == "default":  # else it is that of tests.mutants
    settings.load_profile("txsticky")
