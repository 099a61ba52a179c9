"""The folder is the registry: a name in a config file is a file name in a folder. No lists, no decorators.

`load` finds the one class of a plug-in file, `load_module` the file itself; unknown names raise an error that lists
the folder. Plug-in folders of the user (same sub-folder names) are searched after the project's own, and may not
shadow them. Works from a source tree and from inside agent.pyz. Standard library, Python >= 3.6.
"""
import functools
import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any, FrozenSet, Iterable, List, Set

USER_MODULES = "edgefleet_plugin_"              # how the names of modules from a user's folder begin


class UnknownPlugin(Exception):
    """No such file. `name`, `folder` and `allowed` let the caller find near misses."""

    def __init__(self, name: str, folder: str, allowed: List[str]) -> None:
        super().__init__("no %r in %s/; there is: %s" % (name, folder, ", ".join(allowed) or "nothing"))
        self.name, self.folder, self.allowed = name, folder, allowed


class BadPlugin(Exception):
    """The file is there but does not hold what its folder asks for."""


def names(package: str, plugin_dirs: Iterable[str] = ()) -> List[str]:
    """Sorted plug-in names of a package such as "device_agents.adapters", those of the user's folders included."""
    found = set(_own(package))
    folder = package.rpartition(".")[2]
    for directory in plugin_dirs:
        path = os.path.join(directory, folder)
        if os.path.isdir(path):
            found.update(_files(path))
    return sorted(found)


def load_module(package: str, name: str, plugin_dirs: Iterable[str] = ()) -> ModuleType:
    """The plug-in's module. Raises UnknownPlugin; an exception inside the user's file passes through."""
    plugin_dirs = list(plugin_dirs)
    folder = package.rpartition(".")[2]
    if name in _own(package):
        return importlib.import_module(package + "." + name)
    return _import_file(file_of(package, name, plugin_dirs), "%s%s_%s" % (USER_MODULES, folder, name))


def file_of(package: str, name: str, plugin_dirs: Iterable[str] = ()) -> str:
    """The path of a plug-in's file, which is not imported. Raises UnknownPlugin."""
    plugin_dirs = list(plugin_dirs)
    own = importlib.util.find_spec(package + "." + name) if name in _own(package) else None
    if own is not None and own.origin:
        return own.origin
    folder = package.rpartition(".")[2]
    for directory in plugin_dirs:
        path = os.path.join(directory, folder, name + ".py")
        if os.path.isfile(path):
            return path
    raise UnknownPlugin(name, folder, names(package, plugin_dirs))


def load(package: str, name: str, seam: Any, plugin_dirs: Iterable[str] = ()) -> Any:
    """The one class in the plug-in file that derives from `seam`. Raises UnknownPlugin or BadPlugin."""
    module = load_module(package, name, plugin_dirs)
    found = [value for value in vars(module).values()
             if isinstance(value, type) and issubclass(value, seam) and value.__module__ == module.__name__]
    if len(found) != 1:
        raise BadPlugin("%s must hold exactly one class derived from %s, found %d"
                        % (getattr(module, "__file__", name), seam.__name__, len(found)))
    return found[0]


@functools.lru_cache(maxsize=None)
def _own(package: str) -> FrozenSet[str]:
    """Names in the project's own folder. Listed once a process: the agent loads some twenty plug-ins at each start."""
    found: Set[str] = set()
    for path in importlib.import_module(package).__path__:
        if os.path.isdir(path):
            found.update(_files(path))
        else:                                   # inside agent.pyz; pkgutil is slow to import
            import pkgutil
            found.update(info.name for info in pkgutil.iter_modules([path]))
    return frozenset(found)


def _files(path: str) -> List[str]:
    return [entry[:-3] for entry in os.listdir(path) if entry.endswith(".py") and entry != "__init__.py"]


def _import_file(path: str, alias: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(alias, path)
    if spec is None or spec.loader is None:
        raise BadPlugin("cannot import %s" % path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[alias] = module                 # NamedTuple and pickling look the module up by name
    spec.loader.exec_module(module)
    return module
