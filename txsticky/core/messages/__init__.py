"""What the processes of a cluster tell each other: hand-offs, control frames, their codec."""
