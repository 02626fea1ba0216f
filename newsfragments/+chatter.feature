Opening a WebSocket of an ASGI application costs less: of what uvicorn tells its log about each WebSocket no record is made where none is taken.
