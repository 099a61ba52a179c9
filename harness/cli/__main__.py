"""`python -m harness.cli`: the same as the command `edgefleet`."""
from harness.cli import main

main()
