"""The folders of files that are not Python modules: Avro schemas and migrations.

In a checkout (and in an editable install, which reads the checkout) they are at the top level;
the wheel has the same folders inside the package. Other modules need not know which of the two it is.
"""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def schemas_dir() -> Path:
    """The folder of the `.avsc` files, the public contract.

    Raises:
        FileNotFoundError: neither the package nor a checkout around it has the folder.
    """
    return _find("schemas")


def migrations_dir() -> Path:
    """The folder of Tidemill's own Alembic revisions; a plug-in brings its own.

    Raises:
        FileNotFoundError: neither the package nor a checkout around it has the folder.
    """
    return _find("migrations")


def _find(name: str, package: Path = _PACKAGE) -> Path:
    shipped = package / f"_{name}"
    checkout = package.parents[1] / name
    for folder in (shipped, checkout):
        if folder.is_dir():
            return folder
    message = (
        f"No {name} folder at {shipped} nor {checkout}: install tidemill's wheel, or run from a checkout."
    )
    raise FileNotFoundError(message)
