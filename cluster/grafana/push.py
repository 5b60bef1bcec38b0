"""Creates, updates and removes what the project has in a Grafana; twice is as once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cluster.grafana.content import Json, dashboards, datasource_settings, rules
from cluster.grafana.names import (
    DATASOURCE_NAME,
    DATASOURCE_UID,
    FOLDER_TITLE,
    FOLDER_UID,
    RULE_PREFIX,
)
from rllib_ext.errors import UserError
from rllib_ext.grafana_connection import Grafana

RULES = "/v1/provisioning/alert-rules"
EDITABLE = {"X-Disable-Provenance": "true"}  # else the rules could not be changed in Grafana
CREATED, UPDATED, UNCHANGED = "created", "updated", "unchanged"


def push(grafana: Grafana, prometheus_url: str | None) -> Iterator[str]:
    """Brings folder, data source, dashboards and alert rules to what they are here.

    Args:
        grafana: where to.
        prometheus_url: at which Grafana reaches Prometheus; None: a data source that it has.

    Yields:
        One line for each thing, once it is done.

    Raises:
        UserError: Grafana cannot be reached or refuses; what was yielded is done.
    """
    grafana.check()
    yield f"folder {FOLDER_TITLE}: {_push_folder(grafana)}"
    if prometheus_url is None:
        datasource, name = _present_datasource(grafana)
        yield f"data source {name}: used as it is"
    else:
        datasource = DATASOURCE_UID
        done = _push_datasource(grafana, datasource_settings(prometheus_url))
        yield f"data source {DATASOURCE_NAME}: {done}"
    for dashboard in dashboards(datasource):
        done = _push_dashboard(grafana, dashboard)
        yield f"dashboard {dashboard['title']}: {done}, {grafana.url}/d/{dashboard['uid']}"
    yield from _push_rules(grafana, rules(datasource))


def remove(grafana: Grafana) -> Iterator[str]:
    """Removes all of it; the folder only where nothing else is in it.

    Args:
        grafana: where from.

    Yields:
        One line for each thing, once it is done.

    Raises:
        UserError: Grafana cannot be reached or refuses; what was yielded is done.
    """
    grafana.check()
    others = False
    for rule in _rules_of_folder(grafana):
        if rule["uid"].startswith(RULE_PREFIX):
            _delete_rule(grafana, rule["uid"])
            yield f"alert rule {rule['title']}: removed"
        else:
            others = True
    titles = {dashboard["uid"]: dashboard["title"] for dashboard in dashboards()}
    for uid, title in titles.items():
        yield f"dashboard {title}: {_delete_dashboard(grafana, uid)}"
    inside = grafana.ask(
        "list a folder", lambda face: face.api.GET(f"/search?folderUIDs={FOLDER_UID}")
    )
    # The list may lag behind what was just removed.
    if others or any(found["uid"] not in titles for found in inside or []):
        yield f"folder {FOLDER_TITLE}: kept, it holds something else"
    else:
        gone = grafana.ask(
            "remove a folder", lambda face: face.folder.delete_folder(FOLDER_UID), absent=True
        )
        yield f"folder {FOLDER_TITLE}: {_removed(gone)}"
    gone = grafana.ask(
        "remove a data source",
        lambda face: face.api.DELETE(f"/datasources/uid/{DATASOURCE_UID}"),
        absent=True,
    )
    yield f"data source {DATASOURCE_NAME}: {_removed(gone)}"


def _push_folder(grafana: Grafana) -> str:
    present = grafana.ask(
        "read a folder", lambda face: face.folder.get_folder(FOLDER_UID), absent=True
    )
    if present is None:
        grafana.ask(
            "create a folder", lambda face: face.folder.create_folder(FOLDER_TITLE, FOLDER_UID)
        )
        return CREATED
    if present["title"] == FOLDER_TITLE:
        return UNCHANGED
    grafana.ask(
        "update a folder",
        lambda face: face.folder.update_folder(FOLDER_UID, FOLDER_TITLE, overwrite=True),
    )
    return UPDATED


def _own_datasource(grafana: Grafana) -> Json | None:
    # grafana-api has data sources by their numbers alone, which Grafana gives up.
    return grafana.ask(
        "read a data source",
        lambda face: face.api.GET(f"/datasources/uid/{DATASOURCE_UID}"),
        absent=True,
    )


def _present_datasource(grafana: Grafana) -> tuple[str, str]:
    """The uid and name of the Prometheus to use: our own, else the default, else the first."""
    own = _own_datasource(grafana)
    if own is not None:
        return own["uid"], own["name"]
    sources = grafana.ask("list data sources", lambda face: face.datasource.list_datasources())
    usable = [source for source in sources or [] if source["type"] == "prometheus"]
    if not usable:
        raise UserError(
            f"{grafana.url} has no Prometheus as a data source: give --prometheus-url, the address "
            "at which Grafana reaches it."
        )
    chosen = max(usable, key=lambda source: bool(source["isDefault"]))
    return chosen["uid"], chosen["name"]


def _push_datasource(grafana: Grafana, wanted: Json) -> str:
    present = _own_datasource(grafana)
    if present is None:
        grafana.ask("create a data source", lambda face: face.datasource.create_datasource(wanted))
        return CREATED
    if _covers(present, wanted):
        return UNCHANGED
    options = {**(present.get("jsonData") or {}), **wanted["jsonData"]}
    changed = {**present, **wanted, "jsonData": options}
    grafana.ask(
        "update a data source",
        lambda face: face.api.PUT(f"/datasources/uid/{DATASOURCE_UID}", json=changed),
    )
    return UPDATED


def _push_dashboard(grafana: Grafana, dashboard: Json) -> str:
    uid = dashboard["uid"]
    present = grafana.ask(
        "read a dashboard", lambda face: face.dashboard.get_dashboard(uid), absent=True
    )
    if present is not None:
        saved = {k: v for k, v in present["dashboard"].items() if k not in ("id", "version")}
        if saved == dashboard and present["meta"].get("folderUid") == FOLDER_UID:
            return UNCHANGED
    grafana.ask(
        "save a dashboard",
        lambda face: face.dashboard.update_dashboard(
            {
                "dashboard": {**dashboard, "id": None},
                "folderUid": FOLDER_UID,
                "message": "mnm dashboard push",
                "overwrite": True,
            }
        ),
    )
    return CREATED if present is None else UPDATED


def _delete_dashboard(grafana: Grafana, uid: str) -> str:
    return _removed(
        grafana.ask(
            "remove a dashboard", lambda face: face.dashboard.delete_dashboard(uid), absent=True
        )
    )


def _rules_of_folder(grafana: Grafana) -> list[Json]:
    every = grafana.ask("list alert rules", lambda face: face.api.GET(RULES))
    return [rule for rule in every or [] if rule["folderUID"] == FOLDER_UID]


def _push_rules(grafana: Grafana, wanted: list[Json]) -> Iterator[str]:
    present = {rule["uid"]: rule for rule in _rules_of_folder(grafana)}
    for rule in wanted:
        old = present.pop(rule["uid"], None)
        if old is None:
            _create_rule(grafana, rule)
            done = CREATED
        else:
            rule = {**rule, "isPaused": old.get("isPaused", False)}  # a pause is the user's
            done = UNCHANGED
            if not _covers(old, rule):
                _update_rule(grafana, rule)
                done = UPDATED
        yield f"alert rule {rule['title']}: {done}"
    for uid, rule in present.items():
        if uid.startswith(RULE_PREFIX):
            _delete_rule(grafana, uid)
            yield f"alert rule {rule['title']}: removed"


def _create_rule(grafana: Grafana, rule: Json) -> None:
    grafana.ask(
        "create an alert rule", lambda face: face.api.POST(RULES, json=rule, headers=EDITABLE)
    )


def _update_rule(grafana: Grafana, rule: Json) -> None:
    grafana.ask(
        "update an alert rule",
        lambda face: face.api.PUT(f"{RULES}/{rule['uid']}", json=rule, headers=EDITABLE),
    )


def _delete_rule(grafana: Grafana, uid: str) -> None:
    grafana.ask(
        "remove an alert rule",
        lambda face: face.api.DELETE(f"{RULES}/{uid}", headers=EDITABLE),
        absent=True,
    )


def _covers(present: Any, wanted: Any) -> bool:
    """Whether all that is wanted is there; Grafana adds defaults of its own."""
    if isinstance(wanted, dict):
        return isinstance(present, dict) and all(
            key in present and _covers(present[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(present, list)
            and len(present) == len(wanted)
            and all(map(_covers, present, wanted))
        )
    return bool(present == wanted)


def _removed(answer: Any) -> str:
    return "was not there" if answer is None else "removed"
