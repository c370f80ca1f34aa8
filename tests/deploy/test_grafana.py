"""The boards are what Grafana 13 takes: by its own types, without overlaps, of datasources that are provisioned.

Nobody draws them here: docs/monitoring.md says so. tests/deploy/test_monitoring.py has each panel answered.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from stream_app.settings import PROJECT
from tests.deploy.boards import BOARDS, FOLDER

PACKAGES = Path(__file__).parent / "grafana"
TYPES = "@grafana/schema/dist/types/raw"
# JSON has the text of what is an enum there.
OF_JSON = "type Json<T> = T extends string ? `${T}` : T extends object ? { [K in keyof T]: Json<T[K]> } : T;"
STRICT = ("--noEmit", "--strict", "--skipLibCheck", "--moduleResolution", "bundler", "--module", "esnext")


class Closed(BaseModel):
    """What Grafana reads, with no other key."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


class Datasource(Closed):
    name: str
    uid: str
    type: str
    access: Literal["proxy"]
    url: str
    is_default: bool = False
    user: str = ""
    json_data: dict[str, str | bool]
    secure_json_data: dict[str, str] = {}


class Datasources(Closed):
    api_version: Literal[1]
    datasources: list[Datasource]


class Folder(Closed):
    path: str


class Provider(Closed):
    name: str
    type: Literal["file"]
    folder: str
    allow_ui_updates: bool
    disable_deletion: bool
    update_interval_seconds: int
    options: Folder


class Providers(Closed):
    api_version: Literal[1]
    providers: list[Provider]


def provisioned(name: str) -> Any:
    return yaml.safe_load((FOLDER / "provisioning" / name / f"{name}.yml").read_text())


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Grafana's types and the compiler, pinned by their hashes; npm keeps what it has fetched."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.fail("make deploy-test: npm is needed; install it, on Debian with: apt-get install npm")
    folder = tmp_path_factory.mktemp("grafana")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(PACKAGES / name, folder)
    command = [npm, "ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def typed(board: dict[str, Any]) -> str:
    """A board as TypeScript: the whole, and each panel's options as those of its kind."""
    kinds = sorted({panel["type"] for panel in board["panels"]})
    lines = [f'import type {{ Dashboard }} from "./node_modules/{TYPES}/dashboard/x/types.gen";', OF_JSON]
    lines += [
        f'import type * as {kind} from "./node_modules/{TYPES}/composable/{kind}/panelcfg/x/types.gen";'
        for kind in kinds
    ]
    lines.append(f"export const board: Json<Dashboard> = {json.dumps(board)};")
    for panel in board["panels"]:
        kind, number = panel["type"], panel["id"]
        lines.append(f"export const options{number}: Json<Partial<{kind}.Options>> = {json.dumps(panel['options'])};")
        if custom := panel["fieldConfig"]["defaults"].get("custom"):
            lines.append(f"export const custom{number}: Json<Partial<{kind}.FieldConfig>> = {json.dumps(custom)};")
    return "\n".join(lines)


def compiled(packages: Path, sources: dict[str, str]) -> str:
    """What the compiler says of them; nothing where all is right."""
    for name, source in sources.items():
        (packages / f"{name}.ts").write_text(source)
    command = [str(packages / "node_modules" / ".bin" / "tsc"), *STRICT, *(f"{name}.ts" for name in sources)]
    done = subprocess.run(command, cwd=packages, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_each_board_is_one_by_grafana_s_own_types(packages: Path) -> None:
    assert compiled(packages, {name: typed(board) for name, board in BOARDS.items()}) == ""


@pytest.mark.parametrize(
    ("before", "after"),
    [('"gridPos"', '"gridPoz"'), ('"type": "stat"', '"type": 1'), ('"mode": "absolute"', '"mode": "none"')],
)
def test_the_types_find_what_is_wrong(packages: Path, before: str, after: str) -> None:
    text = typed(BOARDS["kafka"])
    assert before in text
    assert "error TS" in compiled(packages, {"wrong": text.replace(before, after, 1)})


@pytest.mark.parametrize("name", BOARDS)
def test_no_panel_covers_another(name: str) -> None:
    panels = BOARDS[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] >= 0, panel["title"]
        assert at["x"] + at["w"] <= 24, panel["title"]
    for one, other in combinations(panels, 2):
        a, b = one["gridPos"], other["gridPos"]
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert apart or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"], (one["title"], other["title"])


def test_what_is_provisioned_is_what_the_boards_ask() -> None:
    known = {one.uid: one.type for one in Datasources.model_validate(provisioned("datasources")).datasources}
    asked = {name: board["panels"] + board["templating"]["list"] for name, board in BOARDS.items()}
    assert sorted(asked) == ["kafka", "pipeline", "sales"]
    for name, askers in asked.items():
        for asker in askers:
            for one in (asker, *asker.get("targets", ())):
                assert known[one["datasource"]["uid"]] == one["datasource"]["type"], (name, asker)
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS)


def test_the_boards_are_where_compose_mounts_them() -> None:
    (provider,) = Providers.model_validate(provisioned("dashboards")).providers
    mounts = yaml.safe_load((PROJECT / "compose.yaml").read_text())["services"]["grafana"]["volumes"]
    assert f"./deploy/grafana/dashboards:{provider.options.path}:ro" in mounts
    assert "./deploy/grafana/provisioning:/etc/grafana/provisioning:ro" in mounts
