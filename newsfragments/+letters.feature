Connections that move, and short ones whose requests repeat, cost up to a third less: a request that names its worker by a tag is known by its letters on the way out and on the way in.
