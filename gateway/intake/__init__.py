"""From kept deliveries to tickets: normalise, route, dedupe, then file in batches.

    deliveries --normalise--> events --decide--> identities, contacts, conversations, tickets, messages

`events.py` turns deliveries into event rows. `decide.py` files events, purely: (events, snapshot) to changes. `load.py`
and `save.py` read the snapshot and write the changes in a few bulk statements. `worker.py` runs it all.
`keys.py` sees to it that ids fit indexes.
"""

from gateway.intake.waiting import file_now
from gateway.intake.worker import IntakeWorker

__all__ = ["IntakeWorker", "file_now"]
