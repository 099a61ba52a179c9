"""Online half of the tests' learner: stays on the first branch and counts its training trials."""
import json

from device_agents.seams import Adapter, UserError
from device_agents.wire import Decision


class Learner(Adapter):
    def start(self, view, learned):
        self.settings = view.settings
        self.trials = json.loads(learned.decode())["trials"] if learned else 0
        if not self.settings["learn"] and not learned and self.settings.get("strict"):
            raise UserError("learner was evaluated before it learned")
        return Decision(view.branches[0].id)

    def decide(self, context, last):
        return Decision(last.decision.branch) if last else self.first()

    def first(self):
        return Decision("full")

    def learned(self):
        if not self.settings["learn"]:
            return None
        return json.dumps({"trials": self.trials + 1}).encode()
