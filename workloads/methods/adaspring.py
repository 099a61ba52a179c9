"""AdaSpring, offline half: Liu et al., "AdaSpring", arXiv 2101.11800 (IMWUT/UbiComp 5(1), 2021).

Published: ensemble training of a retraining-free network that holds many compression configurations, structure and
weights, among which the device searches while it runs. A contributor's public workflow starts from a backbone made by
AdaDeep and a set of operators. Left open by what could be read: the operators, the training, what is prepared offline,
what "evolving" weights does to them.
Our re-implementation takes the bundle as the set of configurations. Two forms, the campaign's setting `form`:
`select` (default; a row is called adaspring-select): branches exported beforehand. `evolve`: the device holds the
parent's weights once and recipes; it slices and recombines them and folds BatchNorm in, on each load, by the
engine onnxruntime_evolve. Deviations: the backbone is this project's, not AdaDeep's; BatchNorm statistics are
recalibrated here for each branch and travel in its recipe; 8-bit branches are left out of `evolve`; nothing is pruned
here, because the search and its Pareto front belong to the device, whose own costs decide.
"""
from typing import Any

from device_agents.seams import UserError
from device_agents.wire import BranchBundle
from workloads.seams import DeviceCase, Method, Prepared, Range, Report


class Adaspring(Method):
    per_device = True
    space = {  # noqa: RUF012
        "smoothing": Range(0.05, 1.0), "margin": Range(0.0, 0.4), "up_margin": Range(0.0, 0.4), "hold": Range(1, 30)}

    def policy(self, bundle: BranchBundle) -> dict[str, Any]:
        return {"branches": [branch.id for branch in bundle.branches]}

    def prepare(self, case: DeviceCase, report: Report) -> Prepared:
        form = case.settings.get("form", "select")
        if form == "select":
            return Prepared()
        if form != "evolve":
            raise UserError(f"adaspring has no form {form!r}; there is: select, evolve")
        from workloads.evolve import evolve_bundle
        from workloads.judge import FLOPS_A_MAC, recalibrated

        made = evolve_bundle(case.home, case.parent, case.plugin_dirs, report)
        branches, samples = made.folder.bundle.branches, recalibrated(case.parent.bundle.training["samples"]["train"])
        kept = [branch.id for branch in branches]
        exported_b = sum(branch.size_b for branch in case.parent.bundle.branches if branch.id in kept)
        log = [f"evolve form: {len(kept)} recipes of {made.recipes_b} bytes and the parent's weights of "
               f"{made.weights_b} bytes, in place of {exported_b} bytes of ONNX files; largest difference of a derived "
               f"branch from its exported file {made.worst:.1e}"]
        log += [f"evolve form leaves out {branch.id}: its integer weights and their scales come from a calibration on "
                f"this machine, not from a slice of the parent's weights"
                for branch in case.parent.bundle.branches if branch.id not in kept]
        return Prepared(settings={"branches": kept}, bundle=made.folder, log=tuple(log),
                        budget={"bytes": float(made.recipes_b + made.weights_b), "search_s": made.seconds,
                                "passes": float(samples * len(branches)),
                                "flops": float(FLOPS_A_MAC * samples * sum(branch.macs for branch in branches))})
