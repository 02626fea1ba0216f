"""twisted.web resources and WSGI applications."""
