"""Settings shared by all tests: hypothesis without deadlines (the first example of a kind compiles), seeded in CI."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "vecalloc", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("vecalloc")
