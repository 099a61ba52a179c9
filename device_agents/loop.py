"""The adaptation loop: sense -> decide -> switch -> infer -> record; the same code on a device and in a simulation.

`run_trial` is one whole trial, called by trial_process.py with real parts and by simulation.py with virtual ones; what
differs is handed in: clock, engine, adapter, senses (latest values), load, journal. It writes every line between
`start` and the last one, and raises what goes wrong (NotReady, UserError, Unsupported, anything of a plug-in's).
"""
import base64
import hashlib
import os
import random
from typing import Any, Dict, NamedTuple, Optional

from device_agents import preflight
from device_agents.arrivals import Arrivals, open_arrivals
from device_agents.conditions import Conditions, Script
from device_agents.journal import Journal
from device_agents.residency import Residency
from device_agents.samples import Samples
from device_agents.seams import Adapter, Clock, Engine, UserError
from device_agents.wire import AdapterView, BranchBundle, Context, Decision, Order, Outcome

_MOST_LEARNED_B = 1 << 19                       # in base64 it must fit one line of the journal (see db.journal_file)
_LEAD_IN_NS = int(1e8)                          # between the last warm-up and t0: the load player's children start


class Parts(NamedTuple):
    """What one trial is made of. `store` = folder of files named by their sha256."""
    order: Order
    bundle: BranchBundle
    store: str
    journal: Journal
    clock: Clock
    engine: Engine
    adapter: Adapter
    senses: Any                                 # start() stop() latest() sampler_cpu_pct()
    load: Any                                   # start(t0_ns) stop()


def run_trial(parts: Parts) -> Dict[str, Any]:
    """Run the trial; returns fields of `done`: inferences, decisions, switches, sampler_cpu_pct, learned."""
    order, clock, journal, senses = parts.order, parts.clock, parts.journal, parts.senses
    trial = order.trial
    senses.start()
    try:
        validity, findings = preflight.check(order.preflight, senses, clock)
        journal.write("preflight", validity=validity, findings=findings)
        if validity == "no":
            raise preflight.NotReady(preflight.explain(findings))
        samples = Samples(parts.bundle, parts.store, trial.seed)
        script = Script(trial.trace, clock)
        parts.engine.open(parts.bundle, parts.store, dict(
            order.extra, seed=trial.seed, clock=clock, costs={cost.branch: cost for cost in order.costs},
            co_cpu_pct=lambda: senses.latest().get("co_cpu_pct"), deadline_ms=order.deadline_ms, link=trial.link,
            scripted=script.now, journal=journal.write))
        first = parts.adapter.start(adapter_view(order, parts.bundle), _learned(parts))
        if not isinstance(first, Decision):
            raise UserError("start() of the adapter returned %r, not a Decision" % (first,))
        residency = Residency(trial.residency, parts.bundle, parts.engine, clock, journal)
        residency.start(first.branch, dict(trial.knobs, **first.knobs))
        journal.enter("warmup")
        round_ns = _warm_up(parts, residency, samples, clock.now_ns() + int(trial.warmup_s * 1e9))
        t0_ns = clock.now_ns() + _LEAD_IN_NS + 2 * round_ns
        script.begin(t0_ns)
        parts.load.start(t0_ns)                 # forks; the round after it touches again what the fork has shared
        _warm_up(parts, residency, samples, clock.now_ns())
        clock.sleep_until(t0_ns)
        t_end_ns = t0_ns + int(trial.duration_s * 1e9)
        journal.enter("window")
        arrivals = open_arrivals(trial.arrival, order.period_ms, trial.trace, "%d arrivals" % trial.seed, t0_ns,
                                 t_end_ns, clock)
        counts = adapt(parts, first, arrivals, Conditions(order, t0_ns), residency, samples)
        clock.sleep_until(t_end_ns)
        parts.load.stop()                       # its last line tells of the window's end: it belongs to the window
        journal.enter("cool")
        learned = _keep(parts.adapter.learned(), journal)
    finally:
        parts.load.stop()
        senses.stop()
        parts.engine.close()
    return dict(counts, sampler_cpu_pct=senses.sampler_cpu_pct(), learned=learned)


def adapt(parts: Parts, decision: Decision, arrivals: Arrivals, conditions: Conditions, residency: Residency,
          samples: Samples) -> Dict[str, int]:
    """The measured window. `decision` = the adapter's first; returns the counts of the window."""
    order, journal, now_ns, infer = parts.order, parts.journal, parts.clock.now_ns, parts.engine.infer
    drop_late, knobs = order.trial.late == "drop", order.trial.knobs
    index = begin = samples.index
    decisions = switches = 0
    written, used, last, latency_ms = None, decision.branch, None, None
    for due_ns in arrivals:
        turn_ns = now_ns()
        context = conditions.context(turn_ns, due_ns, parts.senses.latest(), arrivals.waiting(turn_ns), latency_ms)
        deadline_ms, sample = context.deadline_ms, samples.next()
        if drop_late and deadline_ms is not None and turn_ns - due_ns > deadline_ms * 1e6:
            _unanswered(journal, "expired", turn_ns, index, due_ns, sample, context, conditions, False)
            index += 1
            continue
        asked_ns = now_ns()
        decision = parts.adapter.decide(context, last)
        switch_ns = now_ns()
        decide_us = (switch_ns - asked_ns) / 1e3
        if decision.__class__ is not Decision:
            raise UserError("decide() of the adapter returned %r, not a Decision" % (decision,))
        if written is None or decision[:3] != written:      # branch, knobs, reason
            written = decision[:3]
            decisions += 1
            _decided(journal, index, decision, context, decide_us)
            switch_ns = now_ns()
        residency.use(decision.branch, dict(knobs, **decision.knobs) if decision.knobs else knobs)
        start_ns = now_ns()
        label = infer(decision.branch, sample)
        end_ns = now_ns()
        latency_ms, response_ms = (end_ns - start_ns) / 1e6, (end_ns - due_ns) / 1e6
        met = None if deadline_ms is None else response_ms <= deadline_ms
        journal.inference(
            start_ns, index, due_ns, samples.quoted(decision.branch), sample, label, samples.correct(sample, label),
            (turn_ns - due_ns) / 1e6, decide_us, (start_ns - switch_ns) / 1e6, latency_ms, response_ms, met,
            context.queue_len, deadline_ms, conditions.feasible(deadline_ms))
        energy_mj = None if context.power_w is None else context.power_w * latency_ms
        last = Outcome(decision, latency_ms, energy_mj, met)
        switches += decision.branch != used
        used = decision.branch
        index += 1
    closed_ns = now_ns()
    for due_ns in arrivals.rest():
        context = conditions.context(closed_ns, due_ns, {}, 0, None)
        missed = context.deadline_ms is not None and closed_ns - due_ns > context.deadline_ms * 1e6
        _unanswered(journal, "unserved", closed_ns, index, due_ns, samples.next(), context, conditions,
                    False if missed else None)
        index += 1
    return {"inferences": index - begin, "decisions": decisions, "switches": switches}


def adapter_view(order: Order, bundle: BranchBundle) -> AdapterView:
    """All that the adapter gets to know of the trial."""
    trial = order.trial
    return AdapterView(order.deadline_ms, trial.accuracy_floor, order.period_ms, bundle.branches,
                       {cost.branch: cost for cost in order.costs}, dict(trial.settings),
                       random.Random("%d adapter" % trial.seed))


def _warm_up(parts: Parts, residency: Residency, samples: Samples, until_ns: int) -> int:
    """Rounds over the resident branches, at least one, all on sample 0. Returns how long the last one took, in ns."""
    clock, journal = parts.clock, parts.journal
    while True:
        begun_ns = clock.now_ns()
        for branch in residency.resident():
            start_ns = clock.now_ns()
            label = parts.engine.infer(branch, 0)
            latency_ms = (clock.now_ns() - start_ns) / 1e6
            journal.inference(start_ns, samples.index, start_ns, samples.quoted(branch), 0, label,
                              samples.correct(0, label), 0.0, None, 0.0, latency_ms, latency_ms, None, 0, None, 0)
            samples.index += 1
        now_ns = clock.now_ns()
        if now_ns >= until_ns:
            return now_ns - begun_ns


def _decided(journal: Journal, index: int, decision: Decision, context: Context, decide_us: float) -> None:
    journal.write("decision", index=index, branch=decision.branch, knobs=decision.knobs, reason=decision.reason,
                  candidates=[list(candidate) for candidate in decision.candidates], decide_us=round(decide_us, 1),
                  context={name: value for name, value in context._asdict().items() if value is not None})


def _unanswered(journal: Journal, status: str, t_ns: int, index: int, due_ns: int, sample: int, context: Context,
                conditions: Conditions, met: Optional[bool]) -> None:
    journal.write(
        "inference", t_ns, index=index, status=status, due_ns=due_ns, branch=None, sample=sample, label=None,
        correct=None, queue_ms=(t_ns - due_ns) / 1e6, decide_us=None, switch_ms=None, latency_ms=None,
        response_ms=None, met=met, queue_len=context.queue_len, deadline_ms=context.deadline_ms,
        feasible=conditions.feasible(context.deadline_ms))


def _keep(learned: Optional[bytes], journal: Journal) -> Optional[str]:
    """What the adapter learned leaves the device with the journal, and stays nowhere else; returns its sha256."""
    if learned is None:
        return None
    if len(learned) > _MOST_LEARNED_B:
        raise UserError("the adapter learned %d bytes; an artifact may have %d" % (len(learned), _MOST_LEARNED_B))
    digest = hashlib.sha256(learned).hexdigest()
    journal.write("learned", sha256=digest, base64=base64.b64encode(learned).decode("ascii"))
    return digest


def _learned(parts: Parts) -> Optional[bytes]:
    if parts.order.trial.learned is None:
        return None
    with open(os.path.join(parts.store, parts.order.trial.learned), "rb") as file:
        return file.read()


