"""A small server that speaks as much of S3's protocol as pyarrow's client needs, in memory."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import threading
from typing import Any
from urllib.parse import quote, unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from aiohttp import web

BUCKET = "bucket"
DATE = "2026-01-01T00:00:00.000Z"


class S3Server:
    """One bucket in a thread, at a free port of the loopback.

    Attributes:
        objects: content by key.
        written: keys in the order in which they were written.
        address: `http://127.0.0.1:PORT`.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.written: list[str] = []
        self.address = ""
        self._uploads: dict[str, dict[int, bytes]] = {}
        self._numbers = itertools.count()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def environment(self) -> dict[str, str]:
        """What leads pyarrow here, in this process and those that it starts."""
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def names(self, folder: str) -> set[str]:
        """Of what lies in a folder of the bucket."""
        below = (key[len(folder) + 1 :] for key in self.objects if key.startswith(f"{folder}/"))
        return {name.split("/")[0] for name in below if name}

    def __enter__(self) -> S3Server:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(timeout=30)
        return self

    def __exit__(self, *error: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(timeout=30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.address = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        bucket, _, key = unquote(request.path).lstrip("/").partition("/")
        content = _decoded(await request.read(), request.headers)
        query = request.query
        if bucket != BUCKET:
            return _error(404, "NoSuchBucket")
        if not key and request.method == "GET":
            return self._list(query)
        if not key and request.method == "POST":
            for entry in _elements(content, "Key"):
                self.objects.pop(entry, None)
            return _xml("<DeleteResult/>")
        if not key:
            return web.Response()
        if request.method == "POST" and "uploads" in query:
            name = f"upload-{next(self._numbers)}"
            self._uploads[name] = {}
            return _xml(
                f"<InitiateMultipartUploadResult><Bucket>{BUCKET}</Bucket><Key>{escape(key)}</Key>"
                f"<UploadId>{name}</UploadId></InitiateMultipartUploadResult>"
            )
        if request.method == "POST":
            parts = self._uploads.pop(query["uploadId"])
            self._put(key, b"".join(parts[number] for number in sorted(parts)))
            return _xml(
                f"<CompleteMultipartUploadResult><Key>{escape(key)}</Key>"
                f"<ETag>{_tag(self.objects[key])}</ETag></CompleteMultipartUploadResult>"
            )
        if request.method == "PUT":
            source = request.headers.get("x-amz-copy-source")
            if source is not None:
                self._put(key, self.objects[unquote(source).lstrip("/").partition("/")[2]])
                return _xml(
                    f"<CopyObjectResult><LastModified>{DATE}</LastModified></CopyObjectResult>"
                )
            if "uploadId" in query:
                self._uploads[query["uploadId"]][int(query["partNumber"])] = content
            else:
                self._put(key, content)
            return web.Response(headers={"ETag": _tag(content)})
        if request.method == "DELETE":
            self.objects.pop(key, None)
            return web.Response(status=204)
        return self._get(request, key)

    def _put(self, key: str, content: bytes) -> None:
        self.objects[key] = content
        self.written.append(key)

    def _get(self, request: web.Request, key: str) -> web.Response:
        if key not in self.objects:
            return _error(404, "NoSuchKey")
        content, headers = self.objects[key], {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        headers["ETag"] = _tag(content)
        span = request.http_range
        if span.start is not None:
            part = content[span.start : span.stop]
            end = span.start + len(part) - 1
            headers["Content-Range"] = f"bytes {span.start}-{end}/{len(content)}"
            return web.Response(status=206, body=part, headers=headers)
        return web.Response(body=content, headers=headers)

    def _list(self, query: Any) -> web.Response:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        folders, files = set(), []
        for key in sorted(self.objects):
            if not key.startswith(prefix):
                continue
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.split(delimiter)[0] + delimiter)
            else:
                files.append(key)
        most = int(query.get("max-keys", 1000))
        assert len(files) + len(folders) <= 1000 or most < 1000, "pages are not made here"
        return _xml(
            f"<ListBucketResult><Name>{BUCKET}</Name><IsTruncated>false</IsTruncated>"
            f"<KeyCount>{len(files) + len(folders)}</KeyCount>"
            + "".join(
                f"<Contents><Key>{escape(key)}</Key><LastModified>{DATE}</LastModified>"
                f"<ETag>{_tag(self.objects[key])}</ETag><Size>{len(self.objects[key])}</Size>"
                "</Contents>"
                for key in files[:most]
            )
            + "".join(
                f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>"
                for folder in sorted(folders)
            )
            + "</ListBucketResult>"
        )


def _decoded(body: bytes, headers: Any) -> bytes:
    """Without the frames of `aws-chunked`: a length in hexadecimal before each piece."""
    if "aws-chunked" not in headers.get("Content-Encoding", ""):
        return body
    content = b""
    while True:
        line, _, body = body.partition(b"\r\n")
        length = int(line.split(b";")[0], 16)
        if length == 0:
            return content
        content, body = content + body[:length], body[length + 2 :]


def _elements(content: bytes, name: str) -> list[str]:
    root = ElementTree.fromstring(content)
    return [node.text or "" for node in root.iter() if node.tag.rpartition("}")[2] == name]


def _tag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


def _xml(text: str) -> web.Response:
    return web.Response(text=f'<?xml version="1.0"?>{text}', content_type="application/xml")


def _error(status: int, code: str) -> web.Response:
    response = _xml(f"<Error><Code>{code}</Code><Message>{quote(code)}</Message></Error>")
    response.set_status(status)
    return response
