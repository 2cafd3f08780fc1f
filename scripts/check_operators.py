"""Validates KEDA objects strictly against their published models: a field that the model does not know or reads differently fails.

    .venv-check/bin/python scripts/check_operators.py FILE...

check-kubernetes runs it, check-tools installs the packages it needs. Prints a line per error; the exit status is 1 if there is one.
"""

from __future__ import annotations

import sys

import yaml
from cloudcoil.models.keda import v1alpha1 as keda
from pydantic import ValidationError

KINDS = {"ScaledObject": keda.ScaledObject, "TriggerAuthentication": keda.TriggerAuthentication}


def faults(document: dict) -> list[str]:
    """The errors of one object; empty for kinds that are not KEDA's."""
    model = KINDS.get(document.get("kind", ""))
    if model is None:
        return []
    try:
        read = model.model_validate(document).model_dump(mode="json", by_alias=True, exclude_unset=True)
    except ValidationError as error:
        return [str(error)]
    return differences(document, read, document["kind"])


def differences(written: object, read: object, where: str) -> list[str]:
    """Where the model's value differs from the written one."""
    if isinstance(written, dict) and isinstance(read, dict):
        unknown = [f"{where}.{key}: unknown" for key in written if key not in read]
        return unknown + [found for key in written if key in read for found in differences(written[key], read[key], f"{where}.{key}")]
    if isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        pairs = enumerate(zip(written, read))
        return [found for at, (one, other) in pairs for found in differences(one, other, f"{where}[{at}]")]
    return [] if written == read else [f"{where}: {written!r} is read as {read!r}"]


def main() -> int:
    """Checks every document of every file."""
    bad = False
    for file in sys.argv[1:]:
        with open(file) as text:
            documents = [document for document in yaml.safe_load_all(text) if document]
        for fault in (fault for document in documents for fault in faults(document)):
            print(f"{file}: {fault}", file=sys.stderr)
            bad = True
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
