"""What each worker that is ready has of the pool and the table."""
