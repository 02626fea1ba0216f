"""Log events as lines, the file of --log-config, and the access log that only root may write."""
