Each option can also stand in the environment and in a TOML file (``--config``).
