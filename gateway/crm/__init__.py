"""CRMs: asked about people when a conversation begins, told what agents changed (A4). `docs/crm.md` is the contract."""

from __future__ import annotations

from gateway.crm.clients import clients_of
from gateway.crm.model import Answer, Crm, Key
from gateway.crm.work import Begun, CrmWorker, probe, want_lookups

__all__ = ["Answer", "Begun", "Crm", "CrmWorker", "Key", "clients_of", "probe", "want_lookups"]
