"""AdaDeep, offline half: Liu et al., MobiSys 2018; Liu et al., arXiv 2006.04432 (IEEE TMC, 2020).

Published: from a user's performance goals and a device's limits, deep reinforcement learning picks layer by layer a
combination of compression techniques (weight compression, convolution decomposition, special layers) and their
hyper-parameters; a third party says that a DQN does it. Left open by what could be read: the optimisation problem,
cost models, state, action, reward, hyper-parameters of the learning, fine-tuning. This is our re-implementation.

Deviations and choices, all ours:
1. It starts from a trained multi-branch network, the same that the other methods get. Actions: exit and width, then an
   operator or none for each slot (`space = "shared"`). "own" adds a share of filters to prune, in all residual blocks
   alike, and the rank of the dense head. Pruning is structured (compress.py says why). Global average pooling in place
   of dense layers is no action: our networks pool already. One DQN picks these levels, too; there is no second learner.
2. Budgets: latency = the trial's deadline ("idle"), or the deadline / (1 + co_cpu_pct / 100) of the tuning traces'
   mean load ("load": the factor with which our adascale starts); storage and energy = `storage_x` and `energy_x` of the
   full branch. Storage is parameters after BatchNorm is folded, in float32.
3. Reward, after our recollection of the form and not after the paper: (1 - w) a + w e, w = `energy_weight`,
   a = accuracy above chance and e = energy saved, as shares of the full branch's. Beyond a budget: -x / (1 + x),
   x = the sum of relative excesses, so that whatever keeps the budgets comes first.
4. Accuracy in the search: inherited weights, BatchNorm recalibrated, on at most 500 validation samples; no training.
   It depends on no device: accuracies that another search of the same parent found, and the fine-tuned weights of the
   same pick, are taken over, and billed as if they had been made anew.
5. Latency and energy: as measured where the combination is a branch of the bundle, else by an additive model of its
   parts (cost_model.py); pruned or factored parts by their multiply-accumulates. Energy where it was profiled for all
   branches, else in proportion to latency.
6. The first episode is the full network, the others are the DQN's. Picked is the best that was seen; the log says what
   the learned policy prefers, and, where all combinations can be judged, which is best. The pick is fine-tuned alone at
   a tenth of the parent's learning rate, and keeps the inherited weights if that made it less accurate on validation
   data.
"""
import difflib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from device_agents.seams import UserError
from device_agents.wire import Branch, BranchBundle, sha256_of
from workloads.seams import Dataset, DeviceCase, Method, Prepared, Progress, Report, Task

if TYPE_CHECKING:
    from torch import nn

    from workloads.cost_model import Row
    from workloads.dqn import Learned
    from workloads.judge import Estimate, Judge

BRANCH = "adadeep"
DEFAULTS: dict[str, Any] = {
    "budgets": "idle", "space": "shared", "storage_x": 1.0, "energy_x": 1.0, "energy_weight": 0.2, "episodes": 1000,
    "finetune_epochs": 3}
WORDS = {"budgets": ("idle", "load"), "space": ("shared", "own")}
RANGES = {"storage_x": (0.001, 10.0), "energy_x": (0.001, 10.0), "energy_weight": (0.0, 1.0), "episodes": (1, 100_000),
          "finetune_epochs": (0, 1000)}
ONLINE = ("branch",)                            # the adapter's alone
PRUNED = (0.0, 0.25, 0.5, 0.75)                 # shares of filters
FINETUNE_LR = 0.1                               # of the parent's
ENUMERATE_MOST = 128                            # combinations that are all judged, to check the search


class Objective(NamedTuple):
    """The reward of an estimate; see the head of this file. `limit_ms` None = no latency budget."""

    limit_ms: float | None
    storage_x: float
    energy_x: float
    weight: float
    chance: float                               # accuracy of guessing
    full: float                                 # accuracy of the full branch, estimated alike

    def excess(self, one: "Estimate") -> float:
        """Sum of relative excesses over the budgets, 0 when all are kept."""
        limits = [(one.storage_x, self.storage_x), (one.energy_x, self.energy_x)]
        if self.limit_ms is not None:
            limits.append((one.latency_ms, self.limit_ms))
        return sum(max(0.0, value / limit - 1.0) for value, limit in limits)

    def reward(self, one: "Estimate") -> float:
        excess = self.excess(one)
        if excess > 0:
            return -excess / (1.0 + excess)
        above = (one.accuracy - self.chance) / max(0.01, self.full - self.chance)
        return max(0.0, (1.0 - self.weight) * above + self.weight * (1.0 - one.energy_x))


class Adadeep(Method):
    per_device = True
    # Nothing for the tuning: all that it chooses it chooses here, before the network exists that a twin would run.

    def policy(self, bundle: BranchBundle) -> dict[str, Any]:  # noqa: ARG002
        return {}                               # all that it knows depends on the device

    def prepare(self, case: DeviceCase, report: Report) -> Prepared:
        """Search, fine-tune, derive. Raises UserError: bad settings, an imported bundle, no costs, weights gone."""
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")     # before torch; build.py says why
        from workloads import derive, dqn
        from workloads.bundle import write_search
        from workloads.recipe import load_task

        settings, began = checked(case.settings), time.monotonic()
        if any(branch.kind == "imported" for branch in case.parent.bundle.branches):
            raise UserError(f"adadeep needs trained weights, but bundle {case.parent.bundle.id[:12]} was imported; "
                            "leave adadeep out, or train a model of your own")
        task = load_task(case.parent.bundle.task, case.plugin_dirs)
        data = task.load()
        judge = _judge(case, settings, task, data)
        objective = Objective(budget_ms(case, settings["budgets"]), settings["storage_x"], settings["energy_x"],
                              settings["energy_weight"], 1.0 / task.classes, judge.full.accuracy)
        learned = dqn.learn(judge.space.sizes, judge.space.allowed,
                            lambda choice: objective.reward(judge.estimate(choice)), settings["episodes"], case.seed,
                            _teller(settings["episodes"], report), judge.uncompressed)
        judge.judgements.keep()
        search_s, passes, flops = time.monotonic() - began + judge.borrowed_s, judge.passes, judge.flops
        log = [*_told(case, settings, judge, objective), *_found(judge, objective, learned),
               *_enumerated(judge, objective, learned)]
        pick = judge.name(learned.best)
        made = _tuned(case, settings, pick, judge.network(learned.best), task, data, report)
        log.append(made.said)
        folder = derive.derive(case.home, case.parent, [made.branch], {BRANCH: made.artifact}, {
            "method": "adadeep", "pick": pick, "finetune_epochs": settings["finetune_epochs"], "seed": case.seed},
            {"finetune": made.log})
        write_search(folder, _digest(case, settings), {
            "device": case.device, "settings": settings, "pick": pick, "curve": learned.curve, "log": log,
            "search_s": search_s})
        budget = {"passes": float(passes + made.passes), "flops": flops + made.flops, "search_s": search_s,
                  "finetune_epochs": float(settings["finetune_epochs"]),
                  "bytes": float(sum({one.artifact: one.size_b for one in folder.bundle.branches}.values()))}
        return Prepared({"branch": BRANCH}, folder, None, budget, tuple(log))


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """The offline settings. Raises UserError naming the one that makes no sense."""
    settings = {key: value for key, value in given.items() if key not in ONLINE}
    for key, value in settings.items():
        if key in WORDS and value not in WORDS[key]:
            raise UserError(f"adadeep: {key} = {value!r}; it must be one of: {', '.join(WORDS[key])}")
        if key in RANGES:
            low, high = RANGES[key]
            whole = isinstance(low, int)
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) \
                    or not low <= value <= high:
                kind = "a whole number" if whole else "a number"
                raise UserError(f"adadeep: {key} = {value!r}; it must be {kind} from {low} to {high}")
        if key not in DEFAULTS:
            near = difflib.get_close_matches(key, DEFAULTS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UserError(f"adadeep has no setting {key!r}.{hint} There is: {', '.join([*DEFAULTS, *ONLINE])}")
    return {**DEFAULTS, **settings}


def budget_ms(case: DeviceCase, budgets: str) -> float | None:
    if case.deadline_ms is None or budgets == "idle":
        return case.deadline_ms
    return case.deadline_ms / (1.0 + case.co_cpu_pct / 100.0)


def _judge(case: DeviceCase, settings: Mapping[str, Any], task: Task, data: Dataset) -> "Judge":
    from workloads.combinations import Space
    from workloads.compress import ranks
    from workloads.judge import Judge
    from workloads.judgements import Judgements
    from workloads.parent import load_parent

    net = load_parent(case.home, case.parent, case.plugin_dirs)
    extras: dict[str, tuple[float, ...]] = {}
    if settings["space"] == "own":
        features = min(head.in_features for head in net.heads.values())
        extras = {"prune": PRUNED, "rank": (0.0, *map(float, ranks(task.classes, features)))}
    return Judge(net, Space(net, extras), task, data, case.costs, Judgements(case.home, case.parent.bundle.id))


class _Made(NamedTuple):
    """`passes` and `flops`: recalibrations and validations, forwards, and the fine-tuning, both ways."""

    branch: Branch
    artifact: bytes
    log: dict[str, Any]                         # of the fine-tuning
    passes: int
    flops: float
    said: str


def _tuned(case: DeviceCase, settings: Mapping[str, Any], pick: str, plain: "nn.Module", task: Task, data: Dataset,
           report: Report) -> _Made:
    """The pick, fine-tuned, unless that made it worse on validation data; as a branch."""
    from workloads import compress, derive, joint_cost, judge, train
    from workloads.parent import load_weights, save_weights
    from workloads.recipe import source_digests
    from workloads.settings import resolve

    train.recalibrate(plain, data.train)
    branch, artifact = derive.exported(plain, BRANCH, task.shape, data)
    before, epochs = branch.accuracy, settings["finetune_epochs"]
    seen = judge.recalibrated(len(data.train.y)) + len(data.val.y)
    if not epochs:
        return _Made(branch, artifact, {}, seen, float(judge.FLOPS_A_MAC * branch.macs * seen),
                     f"not fine-tuned; validation accuracy {before:.3f}")
    had = case.parent.bundle.training["settings"]
    steered = resolve(had, {"epochs": epochs, "lr": had["lr"] * FINETUNE_LR, "half_epochs": 0, "tail_epochs": 0})
    digest = sha256_of({"parent": case.parent.bundle.id, "pick": pick, "settings": steered._asdict(), "seed": case.seed,
                        "sources": source_digests(("compress.py", "train.py"))})
    log = load_weights(case.home, digest, plain)
    if log is None:
        log = compress.finetune(plain, data.train, steered, case.seed, report, task.augment)
        save_weights(case.home, digest, plain, log)
    train.recalibrate(plain, data.train)
    tuned, tuned_artifact = derive.exported(plain, BRANCH, task.shape, data)
    said = f"{epochs} epochs of fine-tuning: validation accuracy {before:.3f} -> {tuned.accuracy:.3f}"
    if tuned.accuracy >= before:
        branch, artifact = tuned, tuned_artifact
    else:
        said += "; kept the inherited weights, which are better"
    flops = float(branch.macs * (judge.FLOPS_A_MAC * 2 * seen + joint_cost.FLOPS_A_MAC * log.passes))
    return _Made(branch, artifact, log._asdict(), 2 * seen + log.passes, flops, said)


def _teller(episodes: int, report: Report) -> Callable[[int], None]:
    began, told = time.monotonic(), 0.0

    def tell(episode: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= 0.5 or episode == episodes:
            told, per_s = now, episode / max(1e-9, now - began)
            report(Progress("search", episode, episodes, per_s, (episodes - episode) / per_s))

    return tell


def _told(case: DeviceCase, settings: Mapping[str, Any], judge: "Judge", objective: Objective) -> list[str]:
    """Budgets, and how well the costs are known."""
    limit = "none, because there is no deadline" if objective.limit_ms is None else f"{objective.limit_ms:.4g} ms"
    if objective.limit_ms is not None and settings["budgets"] == "load":
        limit += f" = {case.deadline_ms:.4g} ms / (1 + {case.co_cpu_pct:g} %)"
    energy = "profiled" if judge.energy_profiled else "in proportion to latency, because not all was profiled"
    lines = [f"adadeep on {case.device}: latency budget {limit}; storage within {objective.storage_x:g} and energy "
             f"within {objective.energy_x:g} of full; energy is {energy}"]
    lines += [_fit("latency", judge.latency_rows)]
    if judge.energy_profiled:
        lines.append(_fit("energy", judge.drain_rows))
    if settings["space"] == "own":
        lines.append("global average pooling is no action: these networks pool already"
                     + ("" if len(judge.space.extras["rank"]) > 1
                        else "; factoring the dense head is none: it would not make it smaller"))
    return lines


def _fit(what: str, rows: "Sequence[Row]") -> str:
    from workloads.cost_model import left_out_errors

    errors = left_out_errors(rows)
    if not errors:
        return f"{what} of the unmeasured is predicted from {len(rows)} branches, too few to say how well"
    return (f"{what} of the unmeasured is predicted from {len(rows)} branches; each of them, left out, is missed by "
            f"{100 * sum(errors) / len(errors):.0f} % on average and {100 * max(errors):.0f} % at worst")


def _found(judge: "Judge", objective: Objective, learned: "Learned") -> list[str]:
    best, judged = judge.estimate(learned.best), len(judge)
    lines = [f"picked {_line(best, learned.reward)}, first seen in episode {learned.best_episode} of "
             f"{len(learned.curve)}; the search judged {judged} combinations"]
    if objective.excess(best) > 0:
        lines.append(f"no combination that it saw keeps the budgets; this one exceeds them by the least, "
                     f"{100 * objective.excess(best):.0f} % in sum")
    greedy = judge.estimate(learned.greedy)
    lines.append("the learned policy ends there, too" if learned.greedy == learned.best else
                 f"the learned policy ends elsewhere: {_line(greedy, objective.reward(greedy))}")
    return lines


def _enumerated(judge: "Judge", objective: Objective, learned: "Learned") -> list[str]:
    """Whether the search found the optimum, where all can be judged; outside the budget that is reported."""
    choices = list(judge.space.every())
    if len(choices) > ENUMERATE_MOST:
        return [f"{len(choices)} combinations are too many to judge all of them: the optimum is not known"]
    optimum = max(choices, key=lambda choice: objective.reward(judge.estimate(choice)))
    reward = objective.reward(judge.estimate(optimum))
    if learned.reward >= reward:
        return [f"that is the optimum of all {len(choices)} combinations"]
    return [f"that is not the optimum of all {len(choices)} combinations, {_line(judge.estimate(optimum), reward)}"]


def _line(one: "Estimate", reward: float) -> str:
    return (f"{one.name} (reward {reward:.4f}, accuracy {one.accuracy:.3f}, {one.latency_ms:.3g} ms, storage "
            f"{one.storage_x:.2f} and energy {one.energy_x:.2f} of full)")


def _digest(case: DeviceCase, settings: Mapping[str, Any]) -> str:
    return sha256_of({"parent": case.parent.bundle.id, "device": case.device, "deadline_ms": case.deadline_ms,
                      "co_cpu_pct": case.co_cpu_pct, "seed": case.seed, "settings": settings,
                      "costs": {name: list(cost) for name, cost in case.costs.items()}})
