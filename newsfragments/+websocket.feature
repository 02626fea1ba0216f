WebSockets in WSGI: ``simple-websocket``, and with it flask-sock, Flask-SocketIO and python-socketio in threads, gets the connection itself, and over TLS one end of a socket pair.
