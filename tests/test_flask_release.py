from __future__ import annotations

from importlib import metadata

import flask

from flask_signal_observability.flask_release import flask_version


def test_it_is_the_version_that_importlib_finds() -> None:
    assert flask_version() == metadata.version("flask")


def test_where_the_metadata_of_two_versions_lie_beside_flask_importlib_is_asked(tmp_path, monkeypatch) -> None:
    for version in ("0.1.0", "0.2.0"):
        (tmp_path / f"flask-{version}.dist-info").mkdir()
    monkeypatch.setattr(flask, "__file__", str(tmp_path / "flask" / "__init__.py"))
    assert flask_version() == metadata.version("flask")


def test_where_flask_comes_from_an_archive_importlib_is_asked(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(flask, "__file__", str(tmp_path / "packages.zip" / "flask" / "__init__.py"))
    assert flask_version() == metadata.version("flask")
