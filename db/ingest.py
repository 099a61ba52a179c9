"""Journal file -> raw rows, one transaction a trial. Running it again gives identical tables.

Called by the driver when a journal has been collected, and by `edgefleet ingest`. Whatever a device sends cannot crash
it: what is readable is stored, every other line becomes an event "bad_line" and a problem. Rows of the latest attempt
replace those of earlier ones; events are kept per attempt. It decides nothing about the trial's state: the driver does.
"""
import json
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects.sqlite import insert

from db import schema
from db.errors import StoreError
from db.inference_rows import Inferences
from db.journal_file import Bad, Batch, JournalFile, Line, clean, cleaned, excerpt
from db.journal_rows import Context, Refused, decision_row, event_row, loadgen_rows, sample_rows
from db.rows import Inserter
from db.store import BAD_LINES_BELOW, Store
from device_agents.wire import LAST_KINDS, PROVENANCES

BAD_LINES_KEPT = 100

#: journal's error kind -> (class of harness.errors, blame)
ERRORS = {"unsupported": ("DeviceUnsupported", "device"), "not_ready": ("DeviceNotReady", "device"),
          "user": ("AgentFailed", "user"), "agent": ("AgentFailed", "harness")}


class Ingested(NamedTuple):
    """What a journal held. `error` is a class name of harness.errors, "" when done."""

    state: str                                  # done | failed | crashed
    inferences: int                             # rows, warm-up included
    rows: int                                   # of all raw tables
    problems: tuple[str, ...]                   # for people; the bad lines are events too
    error: str
    blame: str
    message: str
    traceback: str
    preflight: str                              # yes | no | unknown | "" when the agent did not get there
    replaced: bool                              # False: a later attempt's rows are there and were left alone


class _Foreign(Exception):
    """The journal is another trial's: nothing of it is stored, nothing that is there is touched."""


def ingest_journal(store: Store, path: Path, trial_id: str, attempt: int) -> Ingested:
    """Store the journal of one attempt. Raises StoreError: unknown trial, unreadable file, database trouble."""
    path = Path(path)
    try:
        with store.transaction() as connection:
            return _Ingest(connection, path, trial_id, attempt).run()
    except _Foreign as foreign:
        return Ingested("crashed", 0, 0, (str(foreign),), "AgentCrashed", "device", str(foreign), "", "", False)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror or error}). "
                         "Collect it again with `edgefleet run`, or restore the file.") from error


class _Ingest:
    """One journal on its way into one transaction."""

    def __init__(self, connection: Connection, path: Path, trial_id: str, attempt: int) -> None:
        row = connection.execute(select(schema.trial.c.provenance).where(schema.trial.c.id == trial_id)).first()
        if row is None:
            raise StoreError(f"{path}: belongs to trial {clean(trial_id)}, which the database does not have. "
                             "Run the campaign that it came from.")
        self._connection, self._trial, self._attempt = connection, trial_id, attempt
        self._file = JournalFile(path)
        self._context = Context(trial_id, attempt, str(row.provenance))
        self._problems: list[str] = []
        self._bad = 0
        self._next = 0                              # seq that is expected
        self._start: Line = {}
        self._preflight: Line = {}
        self._last: Line = {}                       # done | failed
        self._raw = not self._later_attempt()
        self._inserters = {table.name: Inserter(connection, table) for table in (
            schema.decision, schema.measurement, schema.event)}
        self._inferences = Inferences(connection, self._context)

    def run(self) -> Ingested:
        self._forget()
        for batch in self._file.batches():
            for bad in batch.bad:
                self._note_bad(bad)
            self._take(*(batch[:2] if self._follows(batch.lines) else self._in_sequence(batch)))
        self._note_ending()
        for inserter in self._inserters.values():
            inserter.flush()
        self._update_attempt()
        return self._result()

    def _later_attempt(self) -> bool:
        event = schema.event
        return bool(self._connection.execute(select(func.count()).where(
            event.c.trial == self._trial, event.c.attempt > self._attempt, event.c.seq >= 0)).scalar_one())

    def _forget(self) -> None:
        event = schema.event
        self._connection.execute(delete(event).where(
            event.c.trial == self._trial, event.c.attempt == self._attempt,
            (event.c.seq >= 0) | (event.c.seq <= BAD_LINES_BELOW)))
        for table in (schema.inference, schema.decision, schema.measurement) if self._raw else ():
            self._connection.execute(delete(table).where(table.c.trial == self._trial))

    # --- lines --------------------------------------------------------------------------------------------------

    def _take(self, numbers: Sequence[int], lines: Sequence[Line]) -> None:
        for number, line in zip(numbers, lines):
            if line["kind"] != "inference":
                try:
                    self._take_other(line)
                except Refused as refused:
                    self._note_bad(Bad(number, str(refused), _show(line)))
        if self._raw:
            inferences = [line for line in lines if line["kind"] == "inference"]
            for place, reason in self._inferences.add(inferences):
                number = next(number for number, line in zip(numbers, lines) if line is inferences[place])
                self._note_bad(Bad(number, reason, _show(inferences[place])))
        for inserter in self._inserters.values():
            inserter.flush()

    def _follows(self, lines: Sequence[Line]) -> bool:
        """The usual case, told quickly: all numbers follow, all types are right, and nothing has ended."""
        if self._last or not lines:
            return False
        try:
            seqs, times, kinds, phases = zip(*map(_head, lines))
        except KeyError:
            return False
        for column, wanted in ((seqs, int), (times, int), (kinds, str), (phases, str)):
            if set(map(type, column)) != {wanted}:
                return False
        if not -2**62 < min(times) <= max(times) < 2**62:
            return False
        if seqs != tuple(range(self._next, self._next + len(seqs))) or not set(kinds[:-1]).isdisjoint(LAST_KINDS):
            return False
        self._next += len(seqs)
        return True

    def _in_sequence(self, batch: Batch) -> tuple[list[int], list[Line]]:
        """Lines whose number continues the journal. A hole is a problem; a number that goes back is a bad line."""
        numbers: list[int] = []
        lines: list[Line] = []
        ended = bool(self._last)
        for place, (number, line) in enumerate(zip(batch.numbers, batch.lines)):
            after = batch.lines[place + 1].get("seq") if place + 1 < len(batch.lines) else None
            reason = "comes after the last line" if ended else self._why_not(line, after)
            if reason:
                self._note_bad(Bad(number, reason, _show(line)))
                continue
            if line["seq"] != self._next:
                self._problems.append(f"seq {self._next} to {line['seq'] - 1} are missing")
            self._next = line["seq"] + 1
            ended = line["kind"] in LAST_KINDS
            numbers.append(number)
            lines.append(line)
        return numbers, lines

    def _why_not(self, line: Line, after: Any) -> str:
        """`after`: the next line's number. It shows whether a leap is a hole in the journal or a wrong number."""
        if [type(line.get(name)) for name in ("seq", "t_ns", "kind", "phase")] != [int, int, str, str]:
            return "seq, t_ns, kind or phase is missing or of the wrong type"
        if not -2**62 < line["t_ns"] < 2**62:
            return "t_ns is no time"
        seq = line["seq"]
        goes_on = self._next < seq < 2**53 and not (type(after) is int and self._next <= after <= seq)
        return "" if seq == self._next or goes_on else f"its seq is {str(seq)[:20]}, {self._next} was expected"

    def _take_other(self, line: Line) -> None:
        kind = line["kind"]
        if kind in ("sample", "loadgen"):
            rows = (sample_rows if kind == "sample" else loadgen_rows)(line, self._context)
            self._inserters["measurement"].extend(rows if self._raw else ())
        elif kind == "decision":
            row = decision_row(line, self._context)
            if self._raw:
                self._inserters["decision"].append(row)
        else:
            if kind == "start":
                self._begin(cleaned(line))
            row = event_row(line, self._context)
            self._inserters["event"].append(row)
            if kind == "preflight":
                self._preflight = row["body"]
            if kind in LAST_KINDS:
                self._last = {**row["body"], "kind": kind}

    def _begin(self, start: Line) -> None:
        if start.get("trial") != self._trial:
            raise _Foreign(f"the journal belongs to trial {str(start.get('trial'))[:80]}, not to {self._trial}")
        if self._start:
            raise Refused("a second start")
        if start.get("attempt") != self._attempt:
            self._problems.append(f"it is of attempt {str(start.get('attempt'))[:20]}, not {self._attempt}")
        said, planned = start.get("provenance"), self._context.provenance
        if said not in PROVENANCES:
            self._problems.append(f"its provenance is none that we know; taken as {planned}")
        else:
            if said != planned:
                self._problems.append(f"the device says {said}, the trial was planned as {planned}")
            self._context.provenance = str(said)
        self._start = start
        self._context.begin(start)

    # --- the end ------------------------------------------------------------------------------------------------

    def _note_bad(self, bad: Bad) -> None:
        self._bad += 1
        if self._bad <= BAD_LINES_KEPT:
            self._problems.append(f"line {bad.number}: {bad.reason}")
            self._inserters["event"].append({
                "trial": self._trial, "attempt": self._attempt, "seq": BAD_LINES_BELOW - bad.number,
                "kind": "bad_line", "t_ns": None, "phase": None, "provenance": self._context.provenance,
                "body": {"line": bad.number, "reason": bad.reason, "text": bad.text}})

    def _note_ending(self) -> None:
        if self._bad > BAD_LINES_KEPT:
            self._problems.append(f"{self._bad - BAD_LINES_KEPT} more bad lines")
        if self._file.damage:
            self._problems.append(self._file.damage)
        if not self._file.size_b:
            self._problems.append("it is empty")
        elif not self._start:
            self._problems.append("it has no start line")
        said = self._last.get("inferences")
        if self._raw and type(said) is int and said != self._inferences.in_window:
            self._problems.append(f"the agent counted {said} arrivals, {self._inferences.in_window} could be read")

    def _update_attempt(self) -> None:
        """What the journal says about its attempt; the row is there unless the journal is all that is left."""
        fingerprint = self._start.get("fingerprint")
        values = {"journal_sha256": self._file.sha256, "boot_id": _text(self._start.get("boot_id")),
                  "preflight": _text(self._preflight.get("validity")),
                  "fingerprint": fingerprint if isinstance(fingerprint, dict) else None}
        row = {"trial": self._trial, "number": self._attempt, "state": "running", **values}
        self._connection.execute(insert(schema.attempt).values(row).on_conflict_do_update(
            index_elements=["trial", "number"], set_=values))

    def _result(self) -> Ingested:
        state = str(self._last.get("kind", "crashed"))
        error, blame, message = "", "", ""
        if state == "failed":
            error, blame = ERRORS.get(str(self._last.get("error")), ERRORS["agent"])
            message = str(self._last.get("message") or "the agent gave no reason")
        elif state == "crashed":
            error, blame = "AgentCrashed", "device"
            message = f"the journal ends without done or failed, after {self._inferences.count} inferences"
        rows = self._inferences.count + sum(inserter.count for inserter in self._inserters.values())
        return Ingested(state, self._inferences.count, rows, tuple(self._problems), error, blame, message,
                        str(self._last.get("traceback") or ""), str(self._preflight.get("validity") or ""), self._raw)


_head = itemgetter("seq", "t_ns", "kind", "phase")


def _show(line: Line) -> str:
    return excerpt(json.dumps(cleaned(line)).encode())


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
