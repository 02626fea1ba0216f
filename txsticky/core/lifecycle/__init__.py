"""When workers start, drain and end: the fleet, its states and its timing."""
