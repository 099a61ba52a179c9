"""What an adapter's file says of its settings, held against what a campaign states. Called by adapters' `checked`."""
from typing import Any, Dict, Iterable, Tuple

from device_agents.seams import UserError


def with_defaults(method: str, stated: Dict[str, Any], defaults: Dict[str, Any],
                  others: Iterable[str] = ()) -> Dict[str, Any]:
    """`defaults` with what is stated in their place. `others` may be stated, too, and are left out.

    Raises UserError for a name that is in neither.
    """
    known = set(defaults).union(others)
    for name in sorted(stated):
        if name not in known:
            raise UserError("%s has no setting %r; there is: %s" % (method, name, ", ".join(sorted(known))))
    return dict(defaults, **{name: value for name, value in stated.items() if name in defaults})


def check_within(method: str, settings: Dict[str, Any], ranges: Iterable[Tuple[str, float, float]]) -> None:
    """(name, least, most): numbers within their ranges; whole ones where `least` is an int. Raises UserError."""
    for name, least, most in ranges:
        value, kinds = settings[name], int if isinstance(least, int) else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
            raise UserError("%s: %s must be %s within %g..%g, is %r" % (
                method, name, "a whole number" if kinds is int else "a number", least, most, value))
