"""Counts and gauges for Prometheus. Labels are names of ours (account, channel, outcome), never a customer's data."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.deliveries = Counter(
            "gateway_deliveries_total",
            "Webhook requests and mails by outcome",
            ["account", "outcome"],
            registry=registry,
        )
        self.events = Counter(
            "gateway_events_total", "Inbound events by kind and outcome", ["kind", "outcome"], registry=registry
        )
        self.api_requests = Counter(
            "gateway_api_requests_total", "API requests by key, method and status", ["key", "method", "status"],
            registry=registry,
        )  # fmt: skip
        self.sends = Counter(
            "gateway_sends_total", "Attempts to send by outcome", ["account", "outcome"], registry=registry
        )
        self._sends = functools.cache(self.sends.labels)  # a counter's own look-up costs more than the count
        self.refusals = Counter(
            "gateway_refusals_total", "Messages refused or held by rule", ["channel", "rule"], registry=registry
        )
        self.dead_letters = Counter("gateway_dead_letters_total", "Dead letters made", ["direction"], registry=registry)
        self.conflicts = Counter(
            "gateway_conflicts_total", "Contacts that match and contradict each other, found", registry=registry
        )
        self.conflicts_open = Gauge(
            "gateway_conflicts_open", "Conflicts between contacts that nobody has decided", registry=registry
        )
        self.errands = Counter(
            "gateway_errands_total", "Errands for other systems by outcome", ["kind", "target", "outcome"],
            registry=registry,
        )  # fmt: skip
        self.errands_open = Gauge("gateway_errands_open", "Errands not done yet", ["target"], registry=registry)
        self.oldest_errand = Gauge(
            "gateway_oldest_errand_seconds", "Age of the oldest errand not done yet", ["target"], registry=registry
        )
        self.commit_seconds = Histogram(
            "gateway_commit_seconds", "From handing a delivery to the store until it is durable", registry=registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
        )  # fmt: skip
        self.in_flight = Gauge("gateway_requests_in_flight", "Webhook requests being accepted", registry=registry)
        self.oldest_inbound = Gauge(
            "gateway_oldest_inbound_seconds", "Age of the oldest delivery not yet filed", registry=registry
        )
        self.oldest_outbound = Gauge(
            "gateway_oldest_outbound_seconds", "Age of the oldest message not yet sent", registry=registry
        )
        self.outbox_depth = Gauge(
            "gateway_outbox_messages", "Messages in the outbox by state", ["account", "state"], registry=registry
        )
        self.outbox_oldest = Gauge(
            "gateway_outbox_oldest_seconds", "Age of the account's oldest message not yet sent", ["account"],
            registry=registry,
        )  # fmt: skip
        self.undecided = Gauge(
            "gateway_outbox_undecided", "Unknown messages that wait for a person's decision", registry=registry
        )
        self.paused = Gauge(
            "gateway_account_paused", "1 while the account waits as a whole", ["account", "class"], registry=registry
        )
        self.breaker_open = Gauge(
            "gateway_breaker_open", "1 while the account's platform is left alone", ["account"], registry=registry
        )
        self.dead_open = Gauge("gateway_dead_letters_open", "Dead letters not replayed or dropped", registry=registry)
        self.mailbox_up = Gauge(
            "gateway_mailbox_up", "Whether the mailbox of an account could be read last time", ["account"],
            registry=registry,
        )  # fmt: skip
        self.mailbox_errors = Counter(
            "gateway_mailbox_errors_total", "Failed tries to read a mailbox", ["account", "reason"], registry=registry
        )
        self.lookups = Counter(
            "gateway_lookups_total", "Messages asked for at the platform, by outcome", ["account", "outcome"],
            registry=registry,
        )  # fmt: skip
        self.bus_connected = Gauge(
            "gateway_bus_connected", "0 while the Redis that is configured does not answer", registry=registry
        )
        self.bus_connected.set(1)  # without Redis there is nothing to reach
        self.bus_dropped = Counter(
            "gateway_bus_dropped_total", "Live events that other processes were never told", registry=registry
        )
        self.wal_bytes = Gauge("gateway_wal_bytes", "Size of the embedded store's write-ahead log", registry=registry)

    def count_refusals(self, stopped: Iterable[tuple[str, str]]) -> None:
        """Messages refused or held: the channel and the rule of each."""
        for channel, rule in stopped:
            self.refusals.labels(channel, rule).inc()

    def count_send(self, account: str, outcome: str) -> None:
        """One try to send has ended."""
        self._sends(account, outcome).inc()

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
