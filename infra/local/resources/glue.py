"""Glue databases and tables: the catalogue, without anything that runs on it."""

from typing import Any

from infra.local.resources.registry import APPLIED, Inert, Site, creates
from infra.local.template import Created

_CATALOG = Inert("the twin has one account, so one catalogue")


@creates("AWS::Glue::Database", {"CatalogId": _CATALOG, "DatabaseInput": APPLIED})
def database(site: Site, properties: dict[str, Any]) -> Created:
    """Create a database."""
    site.client("glue").create_database(DatabaseInput=properties["DatabaseInput"])
    return Created(properties["DatabaseInput"]["Name"])


@creates(
    "AWS::Glue::Table",
    {"CatalogId": _CATALOG, "DatabaseName": APPLIED, "TableInput": APPLIED},
)
def table(site: Site, properties: dict[str, Any]) -> Created:
    """Create a table."""
    site.client("glue").create_table(
        DatabaseName=properties["DatabaseName"], TableInput=properties["TableInput"]
    )
    return Created(properties["TableInput"]["Name"])
