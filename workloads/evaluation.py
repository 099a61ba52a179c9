"""The samples of a test split that go into a bundle. Called by build.py and import_onnx.py; no one else reads it."""
from workloads.seams import Split
from workloads.splits import stratified

MOST = 1000                                     # samples in a bundle; a device need not hold a whole test set
SEED = 20_241_202


def evaluation_samples(test: Split) -> Split:
    """The whole split, or a fixed stratified part of it."""
    if len(test.y) <= MOST:
        return test
    rows, _ = stratified(test.y, MOST, SEED)
    return Split(test.x[rows], test.y[rows])
