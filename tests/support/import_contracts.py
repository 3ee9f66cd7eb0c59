"""Contract types for import-linter that it does not bring."""

import sys

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class OnlyContract(Contract):
    """A package imports nothing but itself, the allowed modules with all below them, and the standard library."""

    source = fields.StringField()
    allowed = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: FBT001 - import-linter's interface
        """Look at every import of every module of the package, also those within functions."""
        roots = [self.source, *self.allowed]
        found = []
        for importer in sorted({self.source, *graph.find_descendants(self.source)}):
            for imported in sorted(graph.find_modules_directly_imported_by(importer)):
                inside = any(imported == root or imported.startswith(f"{root}.") for root in roots)
                if not inside and imported.partition(".")[0] not in sys.stdlib_module_names:
                    found.append((importer, imported))
        return ContractCheck(kept=not found, metadata={"found": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Name each import that is not allowed."""
        for importer, imported in check.metadata["found"]:
            output.print_error(f"{importer} imports {imported}, which is not among {', '.join(self.allowed)}")
