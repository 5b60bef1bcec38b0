"""Tests of `mnm dashboard` against a server that behaves as Grafana's API is documented."""

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ray._common.tls_utils import generate_self_signed_tls_certs

from rllib_ext.errors import UserError
from rllib_ext.grafana_connection import Grafana, Token, read_token
from tests.cluster.commands import Done, Mnm, assert_one_sentence
from tests.cluster.grafana_server import TOKEN, Fault, GrafanaServer

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="Grafana's builders need Python 3.11"
)
PROMETHEUS = ("--prometheus-url", "http://192.0.2.7:9090")
RULES = 7


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GRAFANA_URL", "GRAFANA_TOKEN_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GRAFANA_TOKEN", TOKEN)


@pytest.fixture
def server() -> Iterator[GrafanaServer]:
    with GrafanaServer() as running:
        yield running


def push(mnm: Mnm, server: GrafanaServer, *words: str) -> Done:
    return mnm("dashboard", "push", "--grafana-url", server.url, *words)


def remove(mnm: Mnm, server: GrafanaServer) -> Done:
    return mnm("dashboard", "remove", "--grafana-url", server.url)


def test_a_push_makes_all_of_it(mnm: Mnm, server: GrafanaServer) -> None:
    done = push(mnm, server, *PROMETHEUS)
    assert (done.code, done.err) == (0, "")
    assert server.folders["mnm"]["title"] == "MnM"
    assert server.datasources["mnm-prometheus"]["url"] == PROMETHEUS[1]
    assert set(server.dashboards) == {"mnm-learning", "mnm-machine"}
    assert len(server.rules) == RULES
    assert all(line.endswith(": created") or "/d/mnm-" in line for line in done.out.splitlines())
    for rule in server.rules.values():
        assert "provenance" not in rule  # else nobody could change it in Grafana
        panel = int(rule["annotations"]["__panelId__"])
        board = server.dashboards[rule["annotations"]["__dashboardUid__"]]["dashboard"]
        assert [one["type"] for one in board["panels"] if one["id"] == panel] == ["timeseries"]


def test_a_second_push_changes_nothing(mnm: Mnm, server: GrafanaServer) -> None:
    push(mnm, server, *PROMETHEUS)
    server.seen.clear()
    done = push(mnm, server, *PROMETHEUS)
    assert done.code == 0
    assert server.changes == []
    assert done.out.count("unchanged") == 4 + RULES


def test_a_push_puts_right_what_was_changed(mnm: Mnm, server: GrafanaServer) -> None:
    push(mnm, server, *PROMETHEUS)
    server.folders["mnm"]["title"] = "Other"
    server.dashboards["mnm-machine"]["dashboard"]["panels"].pop()
    server.datasources["mnm-prometheus"].update(basicAuth=True, url="http://192.0.2.8")
    server.rules["mnm-learner-idle"].update(title="Other", isPaused=True)
    server.rules["mnm-of-an-older-version"] = {**server.rules["mnm-restarts"]}
    server.rules["mnm-of-an-older-version"]["uid"] = "mnm-of-an-older-version"
    server.seen.clear()
    done = push(mnm, server, *PROMETHEUS)
    assert done.code == 0
    rules = "v1/provisioning/alert-rules"
    assert server.changes == [
        "PUT folders/mnm",
        "PUT datasources/uid/mnm-prometheus",
        "POST dashboards/db",
        f"PUT {rules}/mnm-learner-idle",
        f"DELETE {rules}/mnm-of-an-older-version",
    ]
    assert server.folders["mnm"]["title"] == "MnM"
    assert server.datasources["mnm-prometheus"]["url"] == PROMETHEUS[1]
    assert server.datasources["mnm-prometheus"]["basicAuth"] is True  # the user's
    assert server.rules["mnm-learner-idle"]["title"].startswith("Learner idle")
    assert server.rules["mnm-learner-idle"]["isPaused"] is True  # the user's


def test_a_push_uses_a_prometheus_that_is_there(mnm: Mnm, server: GrafanaServer) -> None:
    for uid, kind, default in (("a", "loki", True), ("b", "prometheus", False)):
        server.datasources[uid] = {"uid": uid, "name": uid, "type": kind, "isDefault": default}
    server.datasources["c"] = {**server.datasources["b"], "uid": "c", "isDefault": True}
    assert push(mnm, server).code == 0
    assert set(server.datasources) == {"a", "b", "c"}
    assert {rule["data"][0]["datasourceUid"] for rule in server.rules.values()} == {"c"}


def test_a_push_without_any_prometheus_says_what_to_give(mnm: Mnm, server: GrafanaServer) -> None:
    done = push(mnm, server)
    assert_one_sentence(done)
    assert "--prometheus-url" in done.err


def test_remove_takes_all_of_it_away(mnm: Mnm, server: GrafanaServer) -> None:
    push(mnm, server, *PROMETHEUS)
    done = remove(mnm, server)
    assert (done.code, done.err) == (0, "")
    left = (server.folders, server.datasources, server.dashboards, server.rules)
    assert left == ({}, {}, {}, {})
    again = remove(mnm, server)
    assert again.code == 0
    assert again.out.count("was not there") == 4


def test_remove_keeps_what_is_not_of_the_project(mnm: Mnm, server: GrafanaServer) -> None:
    push(mnm, server, *PROMETHEUS)
    board = server.dashboards["mnm-machine"]
    server.dashboards["mine"] = {**board, "dashboard": {**board["dashboard"], "uid": "mine"}}
    server.rules["mine"] = {**server.rules["mnm-restarts"], "uid": "mine"}
    done = remove(mnm, server)
    assert done.code == 0
    assert (set(server.dashboards), set(server.rules)) == ({"mine"}, {"mine"})
    assert "folder MnM: kept" in done.out
    assert "mnm" in server.folders


def test_a_grafana_under_a_sub_path(mnm: Mnm) -> None:
    with GrafanaServer(prefix="/monitoring/grafana") as server:
        assert push(mnm, server, *PROMETHEUS).code == 0
        assert len(server.rules) == RULES


def test_the_token_comes_from_where_it_is_said(
    mnm: Mnm, server: GrafanaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAFANA_TOKEN", "wrong")
    monkeypatch.setenv("OTHER", TOKEN)
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    assert push(mnm, server, *PROMETHEUS).code == 2
    assert push(mnm, server, *PROMETHEUS, "--token-env", "OTHER").code == 0
    assert push(mnm, server, *PROMETHEUS, "--token-file", str(file)).code == 0
    monkeypatch.delenv("GRAFANA_TOKEN")
    monkeypatch.setenv("GRAFANA_TOKEN_FILE", str(file))
    monkeypatch.setenv("GRAFANA_URL", server.url)
    assert mnm("dashboard", "push", *PROMETHEUS).code == 0


def test_a_token_given_in_place_of_its_name_is_not_shown(mnm: Mnm, server: GrafanaServer) -> None:
    done = push(mnm, server, "--token-env", "glsa_a_real_token")
    assert_one_sentence(done)
    assert "glsa_a_real_token" not in done.err + done.out


@pytest.mark.parametrize("content", ["", "two words", "tok\u00e9n", b"\xff\xfe"])
def test_a_token_file_without_a_token(content: str | bytes, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match="token"):
        read_token(file=file)
    with pytest.raises(UserError, match="cannot be read"):
        read_token(file=tmp_path / "none")


def fault(status: int, body: str = "{}", kind: str = "application/json") -> Fault:
    return Fault(status, body, kind)


PAGE = "<!doctype html><p>a message of some other server</p>"
REFUSALS = {
    "401": (fault(401, '{"message": "Expired API key"}'), "refuses the token of GRAFANA_TOKEN"),
    "403": (fault(403, '{"message": "no"}'), "may not read a folder .* needs the role Admin"),
    "404 of another server": (fault(404, PAGE, "text/html"), "is not Grafana's API"),
    "409": (fault(409, '{"message": "name exists"}'), "read a folder: HTTP 409, name exists"),
    "412": (fault(412, '{"message": "changed by someone else"}'), "HTTP 412, changed by someone"),
    "500": (fault(500, '{"message": "database is locked"}'), "HTTP 500, database is locked"),
    "502 of a proxy": (fault(502, "<p>bad gateway</p>", "text/html"), "HTTP 502, not of Grafana"),
    "a page": (fault(200, PAGE, "text/html"), "is not Grafana's API"),
    "a redirect": (
        Fault(302, location="https://sso.example.com/login"),
        "sends on to https://sso.example.com/login",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_one_sentence(name: str, mnm: Mnm, server: GrafanaServer) -> None:
    answer, sentence = REFUSALS[name]
    server.fault = lambda method, path: answer if "/folders" in path else None
    done = push(mnm, server, *PROMETHEUS)
    assert_one_sentence(done)
    assert re.search(sentence, done.err), done.err
    assert TOKEN not in done.err + done.out


def test_a_real_refusal_of_each_kind(mnm: Mnm, monkeypatch: pytest.MonkeyPatch) -> None:
    with GrafanaServer(role="Editor") as server:
        done = push(mnm, server, *PROMETHEUS)
        assert "may not read a data source" in done.err
    with GrafanaServer() as server:
        push(mnm, server, *PROMETHEUS)
        server.dashboards["mnm-machine"]["meta"] = {"folderUid": "", "provisioned": True}
        done = push(mnm, server, *PROMETHEUS)
        assert "HTTP 400, Cannot save provisioned dashboard" in done.err
        server.datasources["mnm-prometheus"].update(readOnly=True, url="http://192.0.2.8")
        assert push(mnm, server, *PROMETHEUS).code == 2
        monkeypatch.setenv("GRAFANA_TOKEN", "glsa_wrong")
        done = push(mnm, server, *PROMETHEUS)
        assert_one_sentence(done)
        assert "glsa_wrong" not in done.err


def test_no_grafana_at_all(mnm: Mnm) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        done = mnm(
            "dashboard", "push", "--grafana-url", f"http://127.0.0.1:{unused.getsockname()[1]}"
        )
    assert_one_sentence(done)
    assert "Nobody answers" in done.err


def test_something_else_answers_with_json(mnm: Mnm, server: GrafanaServer) -> None:
    server.fault = lambda method, path: Fault(200, '{"status": "up"}')
    done = push(mnm, server)
    assert_one_sentence(done)
    assert "is not Grafana's API" in done.err


def test_no_answer_in_time(server: GrafanaServer) -> None:
    server.fault = lambda method, path: server.released.wait(30) and None
    with pytest.raises(UserError, match=r"No answer from .* within 0\.1 s"):
        Grafana(server.url, Token(TOKEN, "test"), timeout_s=0.1).check()


def test_tls(mnm: Mnm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    for file, text in zip((certificate, key), generate_self_signed_tls_certs(), strict=True):
        file.write_text(text)
    with GrafanaServer(certificate=(key, certificate)) as server:
        done = push(mnm, server, *PROMETHEUS)
        assert_one_sentence(done)
        assert "certificate" in done.err
        assert "REQUESTS_CA_BUNDLE" in done.err
        assert server.seen == []  # the token has not been sent
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
        assert_one_sentence(push(mnm, server, *PROMETHEUS))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        assert push(mnm, server, *PROMETHEUS).code == 0
    with GrafanaServer() as plain:
        done = mnm("dashboard", "push", "--grafana-url", plain.url.replace("http", "https"))
        assert_one_sentence(done)


@pytest.mark.parametrize(
    "url",
    ["grafana", "ftp://grafana", "http://", "http://u:p@grafana", "http://g:x", "http://g?a=b"],
)
def test_an_address_that_is_none(url: str, mnm: Mnm) -> None:
    assert_one_sentence(mnm("dashboard", "push", "--grafana-url", url))
    assert_one_sentence(mnm("dashboard", "export", "unused", "--prometheus-url", url))


def test_export_writes_a_provisioning_folder(mnm: Mnm, tmp_path: Path) -> None:
    done = mnm("dashboard", "export", tmp_path / "out", *PROMETHEUS)
    assert done.code == 0
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")}
    boards = {f"dashboards/mnm/mnm-{name}.json" for name in ("learning", "machine")}
    configs = {f"{kind}/mnm.yaml" for kind in ("alerting", "dashboards", "datasources")}
    assert written == boards | configs
    assert set(done.out.split()) == {str(tmp_path / "out" / name) for name in written}
    read = {name: yaml.safe_load((tmp_path / "out" / name).read_text()) for name in configs}
    assert all(document["apiVersion"] == 1 for document in read.values())
    (source,) = read["datasources/mnm.yaml"]["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", PROMETHEUS[1])
    (provider,) = read["dashboards/mnm.yaml"]["providers"]
    assert provider["options"]["path"] == "/etc/grafana/provisioning/dashboards/mnm"
    (group,) = read["alerting/mnm.yaml"]["groups"]
    assert group["folder"] == provider["folder"]
    assert len(group["rules"]) == RULES
    for rule in group["rules"]:
        assert rule["data"][0]["datasourceUid"] == source["uid"]
        assert rule["dashboardUid"] in ("mnm-learning", "mnm-machine")
        assert isinstance(rule["panelId"], int)
    for name in configs:
        assert "$" not in (tmp_path / "out" / name).read_text()  # the environment's, there
    for name in boards:
        board = json.loads((tmp_path / "out" / name).read_text())
        assert board["templating"]["list"][0]["current"]["value"] == source["uid"]


def test_an_older_python_is_told(mnm: Mnm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 13))
    done = mnm("dashboard", "export", "unused")
    monkeypatch.undo()
    assert_one_sentence(done)
    assert "3.11" in done.err
