"""The command line: options, the command and --check-config."""
