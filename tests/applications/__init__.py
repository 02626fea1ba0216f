"""Applications of others, unchanged, under three workers and the default options.

Each module serves a small application of `served/`, drives it by its real client, and reloads the
cluster on the way. A module whose packages are not installed is skipped and says so;
``python -m tests --applications`` runs all of them, each with an environment of its own, and
writes the table of the documentation (``docs/tested.txt``).
"""
