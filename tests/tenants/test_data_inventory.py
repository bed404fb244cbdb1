"""Data processing: the table covers every table of the database, and the documents are made from it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from django.conf import settings as configured
from django.utils.translation import override

from standalone.config import ROOT
from tenants.accounts.models import Tenant
from tenants.events import endpoints
from tenants.pipeline.care import data_inventory
from tenants.pipeline.care.data_inventory import ENTRIES, host_of, markdown, report
from tenants.scope import tenant_scope
from tests.conftest import Party


def test_each_table_of_the_database_is_in_one_category() -> None:
    from django.apps import apps

    listed = Counter(name for entry in ENTRIES for name in entry.tables)
    there = {model._meta.db_table for model in apps.get_models(include_auto_created=True)}
    assert [name for name, times in listed.items() if times > 1] == []
    # A new table: say in tenants/pipeline/care/data_inventory.py what it keeps, then run `manage.py data_processing`.
    assert sorted(there - set(listed)) == []
    assert sorted(set(listed) - there) == []


def test_the_document_is_what_the_table_gives() -> None:
    """Made anew by `manage.py data_processing > docs/data-processing.md`."""
    with override("zh-hans"):
        assert (ROOT / "docs" / "data-processing.md").read_text() == markdown()


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("s3://bucket/prefix", "bucket"),
        ("https://user:secret@hooks.example:8443/in?token=x", "hooks.example"),
        ("tls://logs.example:6514", "logs.example"),
        ("aws-kms:///alias/main?region=eu-central-1", "alias/main"),
        ("mail.example", "mail.example"),
        ("user:secret@10.0.0.7:8001/v2", "10.0.0.7:8001"),
    ],
)
def test_of_an_address_only_the_host_is_told(address: str, host: str) -> None:
    assert host_of(address) == host


def test_who_gets_something_is_read_from_what_is_set_up(party: Party, stranger: Party, settings: Any) -> None:
    settings.DATA_REGION = "Frankfurt, Germany"
    settings.EMAIL_HOST, settings.RECORD_BUCKET = "mail.example", "s3://anchors/x"
    settings.RECORD_TSA_URL, settings.SYSLOG_URL = "https://tsa.example/tsr", ""
    for one, host in ((party, "hooks"), (stranger, "theirs")):
        with tenant_scope(one.id):
            endpoints.create_webhook(url=f"https://{host}.example/in?key=s3cr3t", actor="test")
    found = report(party.id)
    told = {(one.who, one.host, one.set_up_by) for one in found.recipients}
    assert told >= {
        ("Mail server", "mail.example", "operator"),
        ("Bucket of the record", "anchors", "operator"),
        ("Time stamp authority", "tsa.example", "operator"),
        ("Webhook", "hooks.example", "workspace"),
    }
    assert "Syslog server" not in {who for who, _, _ in told}
    assert "theirs.example" not in {host for _, host, _ in told}
    assert "s3cr3t" not in repr(found)
    assert (found.region, found.backups_kept_days) == ("Frankfurt, Germany", configured.BACKUP_KEEP_DAYS)
    assert len(found.categories) == len(data_inventory.ENTRIES)


def test_nobody_said_where_it_is(party: Party, settings: Any) -> None:
    settings.DATA_REGION = ""
    assert report(party.id).region is None
    assert Tenant.objects.filter(pk=party.id).exists()
