"""Writes the document: `python -m deploy.openapi`, from the root of the repository."""

import json

from deploy.openapi.descriptors import Descriptors, bindings
from deploy.openapi.document import OPENAPI, SERVICE, document, operation_id
from deploy.openapi.pages import FOLDER, example


def main() -> None:
    """Write the document to where Envoy reads it."""
    descriptors = Descriptors.of_this_repository()
    examples = {
        operation_id(method, binding): found
        for method in descriptors.services[SERVICE]
        for binding in bindings(method)
        if (page := FOLDER / f"{method.name}.md").exists()
        if (found := example(page.read_text(encoding="utf-8"), binding))
    }
    text = json.dumps(document(descriptors, examples), indent=2, ensure_ascii=False)
    OPENAPI.write_text(f"{text}\n", encoding="utf-8")


main()
