"""Serves moto's S3 on a free port of the loopback interface, and writes the URL to a file.

It handles one request at a time: moto checks a condition, such as If-None-Match, and writes the object in two steps,
between which another request could write it too.
"""

import os
import sys
import threading

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

application = DomainDispatcherApplication(create_backend_app)
one_at_a_time = threading.Lock()


def respond(environ, start_response):
    with one_at_a_time:
        return application(environ, start_response)


def main():
    server = make_server("127.0.0.1", 0, respond, threaded=True, request_handler=MotoRequestHandler)
    state = sys.argv[1]
    with open(state + ".partial", "w") as file:
        file.write(f"http://127.0.0.1:{server.server_port}\n")
    os.rename(state + ".partial", state)
    server.serve_forever()


main()
