"""Opening a line's model: what is said meanwhile."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from pipeline import line_inspector
from pipeline.config_sections import RuntimeConfig
from pipeline.line_inspector import open_line_session
from tests.models import write_stub_package
from vision.package import load_package


def test_building_an_engine_is_said_and_said_again_until_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = load_package(write_stub_package(tmp_path / "model"))
    told: list[str] = []
    said_twice = threading.Event()

    def tell(text: str) -> None:
        told.append(text)
        if len(told) == 3:
            said_twice.set()

    def slow(*arguments: Any, **named: Any) -> str:
        assert said_twice.wait(30)
        return "a session"

    monkeypatch.setattr(line_inspector, "engine_to_build", lambda *_: "builds an engine")
    monkeypatch.setattr(line_inspector, "open_session", slow)
    monkeypatch.setattr(line_inspector, "_PROGRESS_EVERY_S", 0.01)
    before = set(threading.enumerate())
    assert open_line_session(package, RuntimeConfig(provider="tensorrt"), 1, tell=tell) == "a session"  # type: ignore[comparison-overlap]
    assert told[0] == "builds an engine"
    assert told[1].startswith("builds an engine: ")
    assert told[1].endswith(" s so far")
    assert before.issuperset(threading.enumerate())


def test_nothing_is_said_where_nothing_is_built(tmp_path: Path) -> None:
    package = load_package(write_stub_package(tmp_path / "model"))
    told: list[str] = []
    open_line_session(package, RuntimeConfig(provider="cpu"), 1, tell=told.append)
    assert told == []
