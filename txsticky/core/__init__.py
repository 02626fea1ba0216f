"""Values and decisions, free of I/O: no reactor, no socket, no operating system, no clock."""
