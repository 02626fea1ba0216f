"""What is served in the benchmarks: the same application for every contender."""
