"""The operating system at arm's length: processes, descriptors, privileges, signals, logs."""
