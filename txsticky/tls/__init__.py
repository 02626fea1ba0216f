"""TLS ended in a worker: certificates, the connection, the relay to another worker."""
