"""What surrounds a machine of a cloud, for the tests: Amazon's metadata service, and a server of files.

Arguments: a folder with `user-data`, `files/`, `server.pem` and `server.key`; the address of the metadata service; that of
the server. Every request is kept in `requests` of the folder, a line each.
"""

import http.server
import ssl
import sys
import threading

folder, metadata_at, server_at = sys.argv[1:]
TOKEN = "a-session-of-the-test"
META_DATA = {
    "ami-id": "ami-0123456789abcdef0",
    "instance-id": "i-0123456789abcdef0",
    "instance-type": "t3.micro",
    "local-hostname": "node",
    "local-ipv4": "10.98.0.1",
    "public-ipv4": "203.0.113.9",
}
IDENTITY = '{"instanceId": "i-0123456789abcdef0", "region": "eu-west-1", "availabilityZone": "eu-west-1a"}'
requests = open(f"{folder}/requests", "a", buffering=1, encoding="utf-8")


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, code, body):
        requests.write(f"{code} {self.command} {self.path}\n")
        body = body if isinstance(body, bytes) else body.encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Metadata(Handler):
    def do_PUT(self):
        is_asked = self.path == "/latest/api/token" and self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
        self.answer(200, TOKEN) if is_asked else self.answer(404, "")

    def do_GET(self):
        # In what it takes for a container, cloud-init does not ask who made the machine, and so knows of no sessions; it asks
        # for versions by their date. Whoever asks for the latest one has to have a session.
        if self.path.startswith("/latest/") and self.headers.get("X-aws-ec2-metadata-token") != TOKEN:
            return self.answer(401, "")
        # Every version of the interface is the same here.
        path = self.path.split("/", 2)[2] if self.path.count("/") > 1 else ""
        if path == "user-data":
            return self.answer(200, open(f"{folder}/user-data", "rb").read())
        if path == "dynamic/instance-identity/document":
            return self.answer(200, IDENTITY)
        if path in ("meta-data", "meta-data/"):
            return self.answer(200, "\n".join(META_DATA))
        value = META_DATA.get(path.removeprefix("meta-data/"))
        return self.answer(404, "") if value is None else self.answer(200, value)


class Files(Handler):
    def do_GET(self):
        try:
            self.answer(200, open(f"{folder}/files/{self.path.rsplit('/', 1)[1]}", "rb").read())
        except OSError:
            self.answer(404, "")


metadata = http.server.ThreadingHTTPServer((metadata_at, 80), Metadata)
files = http.server.ThreadingHTTPServer((server_at, 443), Files)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{folder}/server.pem", f"{folder}/server.key")
files.socket = context.wrap_socket(files.socket, server_side=True)
threading.Thread(target=metadata.serve_forever, daemon=True).start()
print("ready", flush=True)
files.serve_forever()
