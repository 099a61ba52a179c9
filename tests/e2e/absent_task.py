"""A task whose data are not there: what every task does when its folder under EDGEFLEET_DATA is missing."""
import os

from device_agents.seams import UserError
from workloads.seams import Dataset, Task


class Absent(Task):
    classes = 10
    shape = (1, 8, 8)

    def load(self) -> Dataset:
        folder = os.environ.get("EDGEFLEET_DATA", "unset")
        raise UserError(f"the data set 'absent' is not in EDGEFLEET_DATA ({folder}); fetch it, or set the variable to "
                        "the folder that holds it")

    def checksum(self) -> str:
        self.load()
        return ""
