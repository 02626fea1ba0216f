``--bus redis-stream://HOST:PORT/DB`` carries the bus over a stream of Redis, which keeps messages over an outage; where it could not, subscribers are told the gap.
