``txsticky balancer haproxy|nginx a=10.0.0.2:8080 b=…`` prints a configuration for several machines: they are chosen by the name in front of session ids and cookies, checked, drained and passed over.
