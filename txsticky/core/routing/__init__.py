"""Which worker a request belongs to: keys, tags, table, pool, balancers and the router."""
