"""A webhook's other end: each body POSTed is a line of FILE, each GET a line "beat". Call form: hookserver.py FILE PORTFILE"""
import http.server
import os
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    def take(self, line):
        with open(sys.argv[1], "ab") as f:
            f.write(line + b"\n")
        self.send_response(200)
        self.end_headers()

    def do_POST(self):
        self.take(self.rfile.read(int(self.headers["Content-Length"])))

    def do_GET(self):
        self.take(b"beat")

    def log_message(self, *args):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
with open(sys.argv[2] + ".new", "w") as f:
    f.write(str(server.server_address[1]))
os.rename(sys.argv[2] + ".new", sys.argv[2])
server.serve_forever()
