"""The process that serves: it adopts, decides at each boundary, gives away and drains."""
