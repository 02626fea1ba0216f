"""ASGI applications on uvicorn's protocol classes."""
