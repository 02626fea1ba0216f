"""
A mutator: it changes one thing in a module at a time, and looks whether a unit test notices.

``python -m tests.mutants MODULE...`` tells how to use it.
"""
