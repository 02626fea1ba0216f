"""What `txsticky.testing` gives to users."""
