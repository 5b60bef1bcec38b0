"""A small HTTP server that takes and answers requests as Grafana's documentation says Grafana does.

Of the folder, data source, dashboard, search, alerting provisioning and annotation APIs it has what
is used here. It is stricter than Grafana in one thing: a field that is not documented is refused.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "glsa_of_this_test"
UID = re.compile(r"[a-zA-Z0-9_-]{1,40}")
DURATION = re.compile(r"\d+(ms|s|m|h)")
ROLES = ("Viewer", "Editor", "Admin")
RULE_FIELDS = {
    *("id", "uid", "orgID", "folderUID", "ruleGroup", "title", "condition", "data", "updated"),
    *("noDataState", "execErrState", "for", "annotations", "labels", "provenance", "isPaused"),
    *("notification_settings", "record"),
}
DATASOURCE_FIELDS = {
    *("id", "uid", "orgId", "name", "type", "typeLogoUrl", "access", "url", "password", "user"),
    *("database", "basicAuth", "basicAuthUser", "basicAuthPassword", "withCredentials"),
    *("isDefault", "jsonData", "secureJsonData", "secureJsonFields", "version", "readOnly"),
}
ANNOTATION_FIELDS = {"dashboardId", "dashboardUID", "panelId", "time", "timeEnd", "tags", "text"}


@dataclass(frozen=True)
class Fault:
    """An answer in place of Grafana's own."""

    status: int
    body: str = "{}"
    content_type: str = "application/json"
    location: str | None = None


@dataclass(frozen=True)
class Seen:
    """One request."""

    method: str
    path: str
    body: Any
    headers: dict[str, str]


class Refused(Exception):
    """A refusal with its status and what the answer says."""

    def __init__(self, status: int, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status, self.body = status, {"message": message, **more}


@dataclass
class GrafanaServer:
    """Grafana in a thread, at a free port of the loopback.

    Attributes:
        role: of the token's service account.
        prefix: sub-path under which it lies.
        certificate: file with key and certificate; None: plain HTTP.
        fault: says for a method and path what to answer in place; None: nothing.
    """

    role: str = "Admin"
    prefix: str = ""
    certificate: tuple[Path, Path] | None = None
    fault: Callable[[str, str], Fault | None] = lambda method, path: None
    folders: dict[str, dict[str, Any]] = field(default_factory=dict)
    datasources: dict[str, dict[str, Any]] = field(default_factory=dict)
    dashboards: dict[str, dict[str, Any]] = field(default_factory=dict)
    rules: dict[str, dict[str, Any]] = field(default_factory=dict)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> GrafanaServer:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        if self.certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*reversed(self.certificate))
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        scheme = "http" if self.certificate is None else "https"
        return f"{scheme}://localhost:{self._server.server_port}{self.prefix}"

    @property
    def changes(self) -> list[str]:
        """The requests that change something."""
        return [f"{seen.method} {seen.path}" for seen in self.seen if seen.method != "GET"]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        grafana = self

        class Handler(BaseHTTPRequestHandler):
            def handle_request(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                raw = self.rfile.read(length)
                fault = grafana.fault(self.command, self.path)
                if fault is not None:
                    return self.answer(fault)
                try:
                    status, body = grafana.answer(
                        self.command, self.path, raw, dict(self.headers.items())
                    )
                except Refused as refused:
                    status, body = refused.status, refused.body
                text = "" if body is None else json.dumps(body)
                self.answer(Fault(status, text))

            def answer(self, fault: Fault) -> None:
                content = fault.body.encode()
                self.send_response(fault.status)
                self.send_header("Content-Type", fault.content_type)
                self.send_header("Content-Length", str(len(content)))
                if fault.location is not None:
                    self.send_header("Location", fault.location)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = handle_request

            def log_message(self, *words: Any) -> None:
                """Keeps the tests' output clean."""

        return Handler

    def answer(
        self, method: str, path: str, raw: bytes, headers: dict[str, str]
    ) -> tuple[int, Any]:
        """The status and the JSON of an answer; None: without a body."""
        parts = urlsplit(path)
        if not parts.path.startswith(f"{self.prefix}/api/"):
            raise Refused(404, "Not found")
        route = parts.path.removeprefix(f"{self.prefix}/api/").split("/")
        if route == ["health"]:
            return 200, {"database": "ok", "version": "11.6.0", "commit": "0"}
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            raise Refused(401, "Invalid API key", messageId="api-key.invalid", statusCode=401)
        body = None
        if method in ("POST", "PUT"):
            if not headers.get("Content-Type", "").startswith("application/json"):
                raise Refused(415, "unsupported media type")
            try:
                body = json.loads(raw)
            except ValueError:
                raise Refused(400, "bad request data") from None
        self.seen.append(Seen(method, "/".join(route), body, headers))
        needed = "Viewer" if method == "GET" else "Editor"
        if route[0] == "datasources" or (route[0] == "v1" and method == "GET"):
            needed = "Admin"
        if ROLES.index(self.role) < ROLES.index(needed):
            raise Refused(
                403,
                "You'll need additional permissions to perform this action.",
                title="Access denied",
                accessErrorId="ACE0",
            )
        query = parse_qs(parts.query)
        for pattern, take in (
            (("folders", ...), self._folder),
            (("datasources", ...), self._datasource),
            (("dashboards", ...), self._dashboard),
            (("v1", "provisioning", "alert-rules", ...), self._rule),
            (("annotations", ...), self._annotation),
        ):
            if tuple(route[: len(pattern) - 1]) == pattern[:-1]:
                return take(method, route[len(pattern) - 1 :], body, headers)
        if route == ["search"] and method == "GET":
            return 200, self._found(query.get("folderUIDs", []))
        raise Refused(404, "Not found")

    def _folder(self, method: str, route: list[str], body: Any, headers: Any) -> tuple[int, Any]:
        if method == "POST" and not route:
            expect(set(body) <= {"uid", "title", "parentUid"}, "undocumented field")
            expect(body.get("title"), "folder title cannot be empty")
            expect(UID.fullmatch(body["uid"]), "uid contains illegal characters")
            if body["uid"] in self.folders:
                raise Refused(409, "a folder with the same uid already exists")
            folder = {"id": len(self.folders) + 1, **body, "version": 1, "canSave": True}
            self.folders[body["uid"]] = folder
            return 200, folder
        folder = there(self.folders, route, "folder not found")
        if method == "PUT":
            expect(set(body) <= {"title", "version", "overwrite"}, "undocumented field")
            if not body.get("overwrite") and body.get("version") != folder["version"]:
                raise Refused(
                    412, "The folder has been changed by someone else", status="version-mismatch"
                )
            folder.update(title=body["title"], version=folder["version"] + 1)
        if method == "DELETE":
            expect(not self._rules_in(route[0]), "folder cannot be deleted: folder is not empty")
            for uid in [hit["uid"] for hit in self._found(route)]:
                del self.dashboards[uid]
            del self.folders[route[0]]
            return 200, {"message": "Folder deleted", "id": folder["id"]}
        return 200, folder

    def _datasource(
        self, method: str, route: list[str], body: Any, headers: Any
    ) -> tuple[int, Any]:
        if method == "GET" and not route:
            return 200, list(self.datasources.values())
        if body is not None:
            expect(set(body) <= DATASOURCE_FIELDS, "undocumented field")
            expect(body.get("name") and body.get("type") and body.get("access"), "bad request data")
            expect(re.match(r"https?://", body.get("url", "")), "Validation error, invalid URL")
        if method == "POST" and not route:
            if body["name"] in [one["name"] for one in self.datasources.values()]:
                raise Refused(409, "data source with the same name already exists")
            source = {
                "id": len(self.datasources) + 1,
                "orgId": 1,
                "typeLogoUrl": "",
                "basicAuth": False,
                "isDefault": False,
                "version": 1,
                "readOnly": False,
                **body,
            }
            self.datasources[body["uid"]] = source
            named = {"datasource": source, "id": source["id"], "name": body["name"]}
            return 200, {**named, "message": "Datasource added"}
        if route[:1] != ["uid"]:  # by number: deprecated since version 9
            raise Refused(404, "Not found")
        source = there(self.datasources, route[1:], "Data source not found")
        if method in ("PUT", "DELETE") and source["readOnly"]:
            raise Refused(403, "Cannot update read-only data source")
        if method == "PUT":
            if body.get("version", source["version"]) != source["version"]:
                raise Refused(409, "Datasource has already been updated by someone else")
            self.datasources[route[1]] = {**source, **body, "version": source["version"] + 1}
            return 200, {"message": "Datasource updated", "datasource": self.datasources[route[1]]}
        if method == "DELETE":
            del self.datasources[route[1]]
            return 200, {"message": "Data source deleted"}
        return 200, source

    def _dashboard(self, method: str, route: list[str], body: Any, headers: Any) -> tuple[int, Any]:
        if method == "POST" and route == ["db"]:
            expect(set(body) <= {"dashboard", "folderUid", "message", "overwrite"}, "undocumented")
            model = body["dashboard"]
            uid = model["uid"]
            expect(model.get("title"), "Dashboard title cannot be empty")
            expect(UID.fullmatch(uid), "uid contains illegal characters")
            expect(body["folderUid"] in self.folders, "folder not found")
            old = self.dashboards.get(uid)
            if old and old["meta"].get("provisioned"):
                raise Refused(400, "Cannot save provisioned dashboard")
            version = old["dashboard"]["version"] if old else 0
            if old and not body.get("overwrite") and model.get("version") != version:
                raise Refused(
                    412,
                    "The dashboard has been changed by someone else",
                    status="version-mismatch",
                )
            number = old["dashboard"]["id"] if old else len(self.dashboards) + 1
            self.dashboards[uid] = {
                "dashboard": {**model, "id": number, "version": version + 1},
                "meta": {"folderUid": body["folderUid"], "url": f"/d/{uid}/x", "slug": "x"},
            }
            return 200, {
                "id": number,
                "uid": uid,
                "url": f"/d/{uid}/x",
                "status": "success",
                "version": version + 1,
                "slug": "x",
            }
        expect(route[:1] == ["uid"], "Not found", 404)
        saved = there(self.dashboards, route[1:], "Dashboard not found")
        if method == "DELETE":
            del self.dashboards[route[1]]
            title = saved["dashboard"]["title"]
            return 200, {"title": title, "message": f"Dashboard {title} deleted", "uid": route[1]}
        return 200, saved

    def _rule(self, method: str, route: list[str], body: Any, headers: Any) -> tuple[int, Any]:
        if method == "GET" and not route:
            return 200, list(self.rules.values())
        if method == "DELETE":
            self.rules.pop(route[0], None)
            return 204, None
        expect(set(body) <= RULE_FIELDS, "undocumented field")
        expect(UID.fullmatch(body["uid"]), "uid contains illegal characters")
        expect(0 < len(body["title"]) <= 190, "invalid alert rule: title")
        expect(body["folderUID"] in self.folders, "folder does not exist")
        expect(DURATION.fullmatch(body["for"]), "not a valid duration string")
        expect(body["noDataState"] in ("Alerting", "NoData", "OK"), "unknown no data state")
        expect(body["execErrState"] in ("OK", "Alerting", "Error"), "unknown execution state")
        references = [query["refId"] for query in body["data"]]
        expect(body["condition"] in references, "condition does not exist")
        for query in body["data"]:
            known = query["datasourceUid"] in {*self.datasources, "__expr__"}
            expect(known, f"data source {query['datasourceUid']} not found")
            span = query["relativeTimeRange"]
            expect(span["from"] > span["to"] >= 0, "invalid time range")
        expect(all(isinstance(v, str) for v in body["annotations"].values()), "bad request data")
        rule = {
            **body,
            "id": len(self.rules) + 1,
            "updated": "2025-01-01T00:00:00Z",
            "notification_settings": None,
            "record": None,
            "data": [
                {**query, "queryType": "", "model": {"intervalMs": 1000, **query["model"]}}
                for query in body["data"]
            ],
        }
        if "X-Disable-Provenance" not in headers:
            rule["provenance"] = "api"
        if method == "POST" and not route:
            if body["uid"] in self.rules:
                raise Refused(409, "rule conflicts with an existing one", statusCode=409)
            self.rules[body["uid"]] = rule
            return 201, rule
        old = there(self.rules, route, "")
        if old.get("provenance", "") != rule.get("provenance", "") and "provenance" in old:
            raise Refused(409, "cannot change provenance from 'api' to ''")
        self.rules[route[0]] = rule
        return 200, rule

    def _annotation(
        self, method: str, route: list[str], body: Any, headers: Any
    ) -> tuple[int, Any]:
        expect(method == "POST" and not route, "Not found", 404)
        expect(set(body) <= ANNOTATION_FIELDS, "undocumented field")
        expect(body.get("text"), "Failed to save annotation")
        expect(isinstance(body["time"], int) and body["time"] > 10**12, "bad request data")
        expect(all(isinstance(tag, str) and tag for tag in body["tags"]), "bad request data")
        self.annotations.append(body)
        return 200, {"message": "Annotation added", "id": len(self.annotations)}

    def _found(self, folders: list[str]) -> list[dict[str, Any]]:
        return [
            {"uid": uid, "title": saved["dashboard"]["title"], "type": "dash-db"}
            for uid, saved in self.dashboards.items()
            if saved["meta"]["folderUid"] in folders
        ]

    def _rules_in(self, folder: str) -> list[str]:
        return [uid for uid, rule in self.rules.items() if rule["folderUID"] == folder]


def expect(condition: object, message: str, status: int = 400) -> None:
    if not condition:
        raise Refused(status, message)


def there(things: dict[str, dict[str, Any]], route: list[str], message: str) -> dict[str, Any]:
    if len(route) != 1 or route[0] not in things:
        raise Refused(404, message)
    return things[route[0]]
