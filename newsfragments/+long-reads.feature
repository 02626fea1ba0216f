Uploads cost less: a worker reads the content of a request up to 256 KiB at a time, and the primary takes no more than 16 KiB of it along.
