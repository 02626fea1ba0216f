"""One of the workers leads: what a worker has to do with that."""
