"""How messages travel between the processes of a cluster: mailboxes, channels and inboxes."""
