"""The template: a process that has imported what workers need, and that they are forked from."""
