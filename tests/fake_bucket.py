"""A stand-in for Google Cloud Storage: its JSON API over HTTP, with the objects in a dict.

It keeps what runs rely on: an object appears whole, has a new generation each time, and conditions on generations are
met or refused (https://cloud.google.com/storage/docs/request-preconditions). It serves gcsfs, TensorStore and Google's
own client, which find it by STORAGE_EMULATOR_HOST and TENSORSTORE_GCS_HTTP_URL. `python fake_bucket.py PORT` serves it
alone.
"""

import base64
import email
import http.server
import itertools
import json
import re
import sys
import threading
import time
import urllib.parse

import google_crc32c

BUCKET = "bucket"


class FakeBucket:
    """A server with one bucket, `bucket`.

    Attributes:
      objects: content and generation by name.
      written: name and time of every write.
      down: answers each request that it is overloaded (503) while True.
    """

    def __init__(self, port: int = 0):
        self.objects: dict[str, tuple[bytes, int]] = {}
        self.written: list[tuple[str, float]] = []
        self.uploads: dict[str, tuple[str, bytes]] = {}
        self.down = False
        self.lock = threading.Lock()
        self.count = itertools.count(1)
        handler = type("Handler", (_Handler,), {"bucket": self})
        self._server = _Server(("127.0.0.1", port), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables by which libraries find it."""
        return {"STORAGE_EMULATOR_HOST": self.url, "TENSORSTORE_GCS_HTTP_URL": self.url}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def names(self, prefix: str = "") -> list[str]:
        with self.lock:
            return sorted(name for name in self.objects if name.startswith(prefix))

    def text(self, name: str) -> str:
        return self.objects[name][0].decode()

    def put(self, name: str, content: bytes, conditions: dict[str, str]) -> dict | None:
        """Writes an object and returns what is known of it, or None where a condition is not met."""
        with self.lock:
            stored = self.objects.get(name, (b"", 0))[1]
            if int(conditions.get("ifGenerationMatch", stored)) != stored:
                return None
            self.objects[name] = (content, next(self.count))
            self.written.append((name, time.monotonic()))
        return self.resource(name)

    def resource(self, name: str) -> dict:
        content, generation = self.objects[name]
        return {
            "kind": "storage#object",
            "name": name,
            "bucket": BUCKET,
            "generation": str(generation),
            "metageneration": "1",
            "size": str(len(content)),
            "contentType": "application/octet-stream",
            "updated": "2026-01-01T00:00:00.000Z",
            "timeCreated": "2026-01-01T00:00:00.000Z",
            "crc32c": base64.b64encode(google_crc32c.Checksum(content).digest()).decode(),
            "etag": str(generation),
        }

    def listing(self, query: dict[str, str]) -> dict:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        items, prefixes = [], []
        for name in self.names(prefix):
            if name < query.get("startOffset", "") or ("endOffset" in query and name >= query["endOffset"]):
                continue
            head, more, _ = name[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            if more:
                prefixes.append(prefix + head + delimiter)
            else:
                items.append(self.resource(name))
        listed = {"kind": "storage#objects", "items": items, "prefixes": sorted(set(prefixes))}
        return {key: value for key, value in listed.items() if value}


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing of clients that were killed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    bucket: FakeBucket
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # a response goes out at once: without it each waits for an acknowledgement

    def log_message(self, *_: object) -> None:
        pass

    def _do(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        query = {key: values[0] for key, values in urllib.parse.parse_qs(url.query, keep_blank_values=True).items()}
        body = self._body()
        if self.bucket.down:
            self._answer(503)
            return
        match = re.fullmatch(r"(/upload|/download|)/storage/v1/b/([^/]+)(/o)?(?:/(.+))?", url.path)
        if match is None or match[2] != BUCKET:
            self._answer(404, {"error": {"code": 404, "message": f"no {url.path} here"}})
            return
        name, _, copy = (match[4] or "").partition(f"/rewriteTo/b/{BUCKET}/o/")
        name, copy = urllib.parse.unquote(name) or None, urllib.parse.unquote(copy)
        if match[1] == "/upload":
            self._upload(query, body)
        elif match[3] is None:
            self._answer(200, {"kind": "storage#bucket", "name": BUCKET, "location": "US", "storageClass": "STANDARD"})
        elif name is None:
            self._answer(200, self.bucket.listing(query))
        elif name not in self.bucket.objects:
            self._answer(404, {"error": {"code": 404, "message": f"no object {name}"}})
        elif self.command == "DELETE":
            with self.bucket.lock:
                stored = self.bucket.objects.get(name, (b"", 0))[1]
                met = int(query.get("ifGenerationMatch", stored)) == stored
                if met:
                    self.bucket.objects.pop(name, None)
            self._answer(204 if met else 412)
        elif copy:
            made = self.bucket.put(copy, self.bucket.objects[name][0], query)
            self._answer(200, {"kind": "storage#rewriteResponse", "done": True, "resource": made})
        elif match[1] == "/download" or query.get("alt") == "media":
            self._download(name, query)
        else:
            self._answer(200, self.bucket.resource(name))

    do_GET = do_POST = do_PUT = do_DELETE = _do

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _upload(self, query: dict[str, str], body: bytes) -> None:
        kind = query.get("uploadType")
        if kind == "resumable" and "upload_id" not in query:
            key = str(next(self.bucket.count))
            self.bucket.uploads[key] = (query.get("name") or json.loads(body)["name"], b"")
            place = f"{self.bucket.url}/upload/storage/v1/b/{BUCKET}/o?uploadType=resumable&upload_id={key}"
            self._answer(200, headers={"Location": place})
            return
        if kind == "resumable":
            name, before = self.bucket.uploads[query["upload_id"]]
            content = before + body
            self.bucket.uploads[query["upload_id"]] = (name, content)
            if self.headers["Content-Range"].endswith("/*"):
                self._answer(308, headers={"Range": f"bytes=0-{len(content) - 1}"})
                return
        elif kind == "multipart":
            head = f"Content-Type: {self.headers['Content-Type']}\n\n".encode()
            name = json.loads(email.message_from_bytes(head + body).get_payload()[0].get_payload())["name"]
            # Cut out as bytes: a part that is read as text would lose some.
            boundary = b"--" + email.message_from_bytes(head).get_boundary().encode()
            content = re.split(rb"\r?\n\r?\n", body.split(boundary)[2], maxsplit=1)[1]
            content = content.removesuffix(b"\n").removesuffix(b"\r")
        else:
            name, content = query["name"], body
        made = self.bucket.put(name, content, query)
        self._answer(412 if made is None else 200, made)

    def _download(self, name: str, query: dict[str, str]) -> None:
        content, generation = self.bucket.objects[name]
        if query.get("ifGenerationNotMatch") == str(generation):
            self._answer(304)
            return
        if int(query.get("ifGenerationMatch", generation)) != generation:
            self._answer(412)
            return
        stored = self.bucket.resource(name)
        headers = {"x-goog-generation": str(generation), "x-goog-hash": f"crc32c={stored['crc32c']}"}
        span = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if span is None:
            self._answer(200, content, headers)
            return
        first = int(span[1]) if span[1] else max(len(content) - int(span[2]), 0)
        last = int(span[2]) if span[1] and span[2] else len(content) - 1
        if first >= len(content):
            self._answer(416)
            return
        part = content[first : last + 1]
        self._answer(206, part, headers | {"Content-Range": f"bytes {first}-{first + len(part) - 1}/{len(content)}"})

    def _answer(self, status: int, body: dict | bytes | None = None, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Type", "application/octet-stream" if isinstance(body, bytes) else "application/json")
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if status not in (204, 304):
            self.wfile.write(content)


if __name__ == "__main__":
    served = FakeBucket(int(sys.argv[1]))
    print(" ".join(f"{key}={value}" for key, value in served.variables.items()), flush=True)
    threading.Event().wait()
