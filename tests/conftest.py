"""Settings shared by all tests: hypothesis without deadlines (the first example of a kind compiles), seeded in CI."""

from hypothesis import HealthCheck, settings

from vecalloc.kernel import JIT

settings.register_profile(
    "vecalloc",
    max_examples=100 if JIT else 15,  # plain Python is a hundred times slower
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("vecalloc")
