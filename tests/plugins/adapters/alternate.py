"""For tests: the largest branch, here and at the first of `peers` in turn."""
from device_agents.seams import Adapter
from device_agents.wire import Decision


class Alternate(Adapter):
    def start(self, view, learned):
        self._branch = max(view.branches, key=lambda branch: branch.macs).id
        self._targets = ["local", view.settings["peers"][0]]
        return self.decide(None, None)

    def decide(self, context, last):
        self._targets.reverse()
        return Decision(self._branch, {"target": self._targets[0]}, "in turn")
