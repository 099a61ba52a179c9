"""ResNet18 on CIFAR-100 as the authors' platform lists it: what `describe` is checked against and tables print beside.

Source: `yuyu5333/Crowd-Platform-Web`, djangoProject/db.sqlite3 (2023-07), by AdaScale's first author [author code].
These are the platform's numbers, not tables of a paper. MACs are thop's. The base row fits ten classes only (11.17 M
parameters, 557.88 M MACs), and the storage of svd contradicts its own parameters; neither is used as a reference.
"""
from typing import NamedTuple


class Row(NamedTuple):
    """Accuracy in %, as listed; under what training is not said."""

    macs_m: float
    params_m: float
    accuracy_pct: float


#: By operator, in stages 3 and 4; "full" = without one
RESNET18_CIFAR100 = {
    "full": Row(557.88, 11.17, 76.07), "svd": Row(409.75, 1.90, 69.05), "dpconv": Row(336.86, 0.89, 73.04),
    "fire": Row(413.94, 1.94, 73.22), "inception1": Row(372.53, 1.54, 62.56), "inception2": Row(541.87, 3.19, 76.58)}
