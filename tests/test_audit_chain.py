from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_signal_observability import Config
from flask_signal_observability import ConfigurationError
from flask_signal_observability import parse_audit_line
from flask_signal_observability.audit.chain import Chain
from flask_signal_observability.audit.finding import Kind
from flask_signal_observability.audit.heads import HeadsFile
from flask_signal_observability.audit.heads import read_heads
from flask_signal_observability.audit.key import AuditKey
from flask_signal_observability.audit.line import format_access
from flask_signal_observability.audit.mark import Note
from flask_signal_observability.audit.mark import split
from flask_signal_observability.audit.verification import verify
from flask_signal_observability.prerequisites import given_in_vain

from .chained_file import ChainedFile
from .chained_file import KEY
from .chained_file import OTHER_KEY
from .chained_file import record

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "a secret of 24 characters"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


def notes(path: Path) -> list[Note]:
    return [note for line in path.read_bytes().splitlines() if (note := Note.read(split(line)[0]))]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_sealed_line_is_the_line_and_a_mark(path: Path, as_json: bool) -> None:
    writer = ChainedFile(path, as_json=as_json)
    writer.write(2)
    writer.abandon()
    told = [split(line) for line in path.read_bytes().splitlines()[1:]]
    assert [line for line, _ in told] == [record(number, as_json=as_json) for number in range(2)]
    assert [mark.sequence for _, mark in told if mark] == [1, 2]


def test_a_sealed_object_is_json(path: Path) -> None:
    writer = ChainedFile(path, as_json=True)
    writer.write(2)
    writer.close()
    objects = [json.loads(line) for line in path.read_text().splitlines()]
    assert objects[1]["url.path"] == "/orders/0"
    assert list(objects[0]) == [
        "chain_note",
        "time",
        "version",
        "algorithm",
        "key",
        "after",
        "saw",
        "chain",
    ]


def test_nothing_is_written_before_the_first_record(path: Path) -> None:
    writer = ChainedFile(path)
    writer.close()
    assert path.read_bytes() == b""
    assert not path.with_name("audit.log.heads").exists()


def test_a_line_that_is_not_in_the_file_takes_no_number(path: Path) -> None:
    writer = ChainedFile(path)
    for _ in range(2):
        before = writer.chain.state
        writer.chain.seal(record(99))
        writer.chain.state = before
        writer.write(1)
    writer.close()
    assert verify([path], [KEY]).findings == ()


def test_the_next_file_opens_with_the_head_of_the_last_one(path: Path) -> None:
    writer = ChainedFile(path)
    writer.write(3)
    writer.rotate("audit.log.1")
    writer.write(1)
    writer.abandon()
    _, last = split(path.with_name("audit.log.1").read_bytes().splitlines()[-1])
    (opening,) = notes(path)
    assert last is not None
    assert opening.fields["after"] == last.mac.decode()
    assert opening.fields["key"] == KEY.id


def test_a_new_process_opens_with_the_last_mark_of_the_file(path: Path) -> None:
    first = ChainedFile(path)
    first.write(3)
    first.abandon()
    second = ChainedFile(path)
    second.write()
    second.abandon()
    _, last = split(path.read_bytes().splitlines()[3])
    assert last is not None
    assert notes(path)[1].fields["saw"] == f"{last.writer.decode()}.{last.sequence}"
    assert notes(path)[1].fields["after"] == "-"


def test_a_forked_process_has_a_chain_of_its_own(path: Path) -> None:
    writer = ChainedFile(path)
    writer.write(3)
    child = os.fork()
    if child == 0:
        try:
            writer.open()
            writer.write(3)
            writer.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    writer.write(3)
    writer.close()
    report = verify([path], [KEY])
    assert (report.findings, report.writers, report.lines) == ((), 2, 13)


def test_a_checkpoint_tells_how_far_the_others_got(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flask_signal_observability.audit.chain.CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr("flask_signal_observability.audit.chain.HEAD_SECONDS", 0)
    one, other = ChainedFile(path), ChainedFile(path)
    one.write(3)
    other.write(2)
    one.write(2)
    one.close()
    other.close()
    checkpoint = next(note for note in notes(path) if note.kind == "checkpoint")
    assert checkpoint.fields["heads"].split(".")[1] in {"1", "2", "3"}
    assert verify([path], [KEY]).findings == ()


def test_a_heads_file_that_cannot_be_written_loses_no_record_and_is_told(path: Path) -> None:
    path.with_name("audit.log.heads").mkdir()
    told: list[OSError] = []
    chain = Chain(KEY, on_failed=told.append)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    chain.opened(path, descriptor)
    os.write(descriptor, chain.seal(record(1)) + b"\n")
    chain.written(0)
    os.close(descriptor)
    assert {type(error) for error in told} == {IsADirectoryError}


def test_a_directory_that_is_gone_is_not_told_of_at_the_end(tmp_path: Path) -> None:
    place = tmp_path / "gone"
    place.mkdir()
    told: list[OSError] = []
    chain = Chain(KEY, on_failed=told.append)
    descriptor = os.open(place / "audit.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    chain.opened(place / "audit.log", descriptor)
    chain.seal(record(1))
    chain.written(0)
    shutil.rmtree(place)
    chain.seal(record(2))
    assert chain.settle() is False
    os.close(descriptor)
    assert told == []


def test_a_full_heads_file_is_put_aside(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flask_signal_observability.audit.heads.MAXIMUM_BYTES", 512)
    for _ in range(3):
        writer = ChainedFile(path)
        writer.write()
        writer.abandon()
    assert path.with_name("audit.log.heads.1").stat().st_size == 512
    assert path.with_name("audit.log.heads").stat().st_size == 256
    assert verify([path], [KEY]).findings == ()


def test_a_heads_file_that_was_deleted_is_made_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flask_signal_observability.audit.chain.HEAD_SECONDS", 0)
    writer = ChainedFile(path)
    writer.write()
    heads = path.with_name("audit.log.heads")
    heads.unlink()
    writer.write()
    writer.abandon()
    (head,) = read_heads(heads.read_bytes(), {KEY.id: KEY}).heads
    assert head.sequence == 2


def test_a_writer_that_is_killed_after_its_first_write_is_known(path: Path) -> None:
    writer = ChainedFile(path)
    os.write(writer.descriptor, writer.chain.seal(record(0)) + b"\n")
    writer.abandon()
    assert verify([path], [KEY]).findings == ()


def test_a_writer_that_is_killed_before_its_first_write_is_not_missed(path: Path) -> None:
    first, second = ChainedFile(path), ChainedFile(path)
    first.write()
    second.chain.seal(record(0))
    first.close()
    second.kill()
    assert verify([path], [KEY]).findings == ()


def test_a_torn_slot_spoils_no_other(path: Path) -> None:
    heads = path.with_name("audit.log.heads")
    heads.write_bytes(b"the half of a slo")
    writer = ChainedFile(path)
    writer.write()
    writer.abandon()
    reading = read_heads(heads.read_bytes(), {KEY.id: KEY})
    assert (len(reading.heads), reading.bad_lines) == (1, (1,))


def test_a_pipe_has_no_heads_file(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    chain = Chain(KEY)
    chain.opened(tmp_path / "fifo", writer)
    assert chain.seal(record(1)).count(b"\n") == 1
    chain.written(0)
    os.close(reader)
    os.close(writer)
    assert list(tmp_path.iterdir()) == []


# the key


def test_a_key_is_in_no_repr() -> None:
    config = Config(audit_chain=True, audit_key=SECRET)
    assert SECRET not in repr(config)
    assert SECRET not in repr(AuditKey(SECRET.encode()))
    assert "audit_key=<str, not shown>" in repr(config)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"audit_key": SECRET}, "audit_key is given and audit_chain is off: set audit_chain=True"),
        ({"audit_key_file": "key"}, "audit_key_file is given and audit_chain is off"),
        ({"audit_chain": True, "audit_key": SECRET, "audit_key_file": "key"}, "give one of them"),
        ({"audit_chain": True, "audit_key": "too short"}, "audit_key=<str, not shown>: give a secret string of at"),
        ({"audit_chain": True, "audit_key": 7}, "audit_key=<int, not shown>: give a secret string of at"),
    ],
)
def test_a_key_that_cannot_work_is_refused_and_not_shown(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        Config(**settings)  # type: ignore[arg-type]
    assert said in str(refusal.value)
    assert SECRET not in str(refusal.value)
    assert "too short" not in str(refusal.value)


def test_a_key_is_read_from_the_environment() -> None:
    environ = {"OBSERVABILITY_AUDIT_CHAIN": "on", "OBSERVABILITY_AUDIT_KEY": SECRET}
    assert Config.resolve("shop", {}, {}, environ).audit_key == SECRET
    environ = {"OBSERVABILITY_AUDIT_CHAIN": "on", "OBSERVABILITY_AUDIT_KEY_FILE": "/run/secrets/key"}
    assert Config.resolve("shop", {}, {}, environ).audit_key_file == "/run/secrets/key"


@pytest.mark.parametrize("key", ["OBSERVABILITY_AUDIT_KEY", "OBSERVABILITY_AUDIT_KEY_FILE"])
def test_a_key_of_the_environment_without_a_chain_is_told_as_given_in_vain(key: str) -> None:
    (vain,) = given_in_vain(Config.resolve("shop", {}, {}, {key: SECRET}))
    assert (vain.name, vain.cause) == (key.removeprefix("OBSERVABILITY_").lower(), "audit_chain is off")


@pytest.mark.parametrize(
    ("app_config", "keywords"), [({"OBSERVABILITY_AUDIT_KEY": SECRET}, {}), ({}, {"audit_key": SECRET})]
)
def test_a_key_of_the_app_without_a_chain_is_refused(app_config: dict[str, str], keywords: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="audit_key is given and audit_chain is off"):
        Config.resolve("shop", app_config, keywords, {})


def test_a_key_file_is_read_without_the_white_space_around_it(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{SECRET}\n")
    (tmp_path / "key").chmod(0o640)
    assert AuditKey.from_file(tmp_path / "key").id == AuditKey(SECRET.encode()).id
    assert AuditKey.of(None, str(tmp_path / "key")).id == AuditKey.of(SECRET, None).id != AuditKey.of(None, None).id


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (SECRET, 0o644, "mode 0644"),
        (SECRET, 0o660, "mode 0660"),
        ("short", 0o600, "5 bytes; give at least 16"),
        ("", 0o600, "0 bytes"),
        ("x" * 5000, 0o600, "no audit key file"),
    ],
)
def test_a_key_file_that_cannot_be_trusted_is_refused(tmp_path: Path, content: str, mode: int, said: str) -> None:
    (tmp_path / "key").write_text(content)
    (tmp_path / "key").chmod(mode)
    with pytest.raises(ConfigurationError, match=said) as refusal:
        AuditKey.from_file(tmp_path / "key")
    assert SECRET not in str(refusal.value)


def test_a_key_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be read.*nowhere"):
        AuditKey.from_file(tmp_path / "nowhere")


def test_a_slot_of_another_key_is_not_believed(path: Path) -> None:
    writer = ChainedFile(path, OTHER_KEY)
    writer.write(2)
    writer.abandon()
    reading = read_heads(path.with_name("audit.log.heads").read_bytes(), {KEY.id: KEY})
    assert (reading.heads, reading.unknown_keys) == ((), {OTHER_KEY.id})


def test_an_unknown_key_is_told_apart_from_a_change(path: Path) -> None:
    writer = ChainedFile(path, OTHER_KEY)
    writer.write(2)
    writer.close()
    assert {finding.kind for finding in verify([path], [KEY]).findings} == {Kind.WRONG_KEY}
    assert verify([path], [KEY, OTHER_KEY]).findings == ()


def test_a_heads_slot_is_put_in_place(tmp_path: Path) -> None:
    writer = ChainedFile(tmp_path / "audit.log")
    writer.write(5)
    writer.close()
    heads = tmp_path / "audit.log.heads"
    assert heads.stat().st_size == 256
    file = HeadsFile(heads, KEY)
    (head,) = read_heads(heads.read_bytes(), {KEY.id: KEY}).heads
    file.put(head)
    file.put(head)
    file.close()
    assert heads.stat().st_size == 512


# the line


def test_a_sealed_line_parses_as_the_line_without_its_mark(path: Path) -> None:
    writer = ChainedFile(path)
    writer.write()
    writer.abandon()
    _, sealed = path.read_text().splitlines()
    assert parse_audit_line(sealed) == parse_audit_line(record(0).decode())


@settings(max_examples=60)
@given(user=st.text(), url=st.text(alphabet=st.sampled_from(" #.aB1-_/")) | st.text())
def test_no_field_of_a_client_looks_like_a_mark(user: str, url: str) -> None:
    mark = f" #{'w' * 8}.7.{'m' * 40}"
    for field in (user, mark):
        line = format_access(0, field, "-", url + mark)
        assert split(line)[1] is None
        assert parse_audit_line(line.decode()).path == url + mark
