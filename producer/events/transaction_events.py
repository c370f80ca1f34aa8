"""What the users of the web shop of user_events pay: orders of one to four products."""

from __future__ import annotations

from producer.events import FAR_MS, Contract, Event, Late, iso_utc, seeded
from producer.shop import any_product, any_user

QUANTITIES = (1,) * 8 + (2, 2, 3)
STATUSES = ("completed",) * 18 + ("pending", "failed")
PAYMENT_METHODS = ("card",) * 6 + ("paypal",) * 3 + ("bank_transfer", "gift_card")


class Events:
    """A seeded, endless source of valid transactions; satisfies `EventSource`.

    The amount is what the items add up to.
    """

    contract = Contract(
        time_field="timestamp",
        required=(
            "transaction_id", "user_id", "amount", "currency", "status", "payment_method", "timestamp", "items",
        ),
        refused={
            "transaction_id": ("", "t" * 65),
            "user_id": ("", "u" * 257),
            "amount": (-0.01, 1_000_000.01, 19.999),
            "currency": ("usd", "EURO", ""),
            "status": ("COMPLETED", "paid"),
            "payment_method": ("", "cash"),
        },
        lateness_ms=600_000,
        future_tolerance_ms=60_000,
        late=Late(share=0.002, age_ms=600_000, more_ms=FAR_MS),
        max_delay_ms=500,
    )  # fmt: skip

    def __init__(self, seed: int) -> None:
        self._rng = seeded("transaction_events", seed)

    def event(self, time_ms: int) -> Event:
        """Make the next transaction; the key is its user. Only `timestamp` depends on the time."""
        rng = self._rng
        user = any_user(rng)
        chosen = {any_product(rng) for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4)))}
        items, cents = list[dict[str, object]](), 0
        for one in sorted(chosen):
            quantity = rng.choice(QUANTITIES)
            cents += quantity * round(one.price * 100)
            items.append({"product_id": one.product_id, "quantity": quantity, "unit_price": one.price})
        fields: dict[str, object] = {
            "transaction_id": f"txn_{rng.getrandbits(96):024x}",
            "user_id": user.user_id,
            "amount": cents / 100,
            "currency": user.currency,
            "status": rng.choice(STATUSES),
            "payment_method": rng.choice(PAYMENT_METHODS),
            "timestamp": iso_utc(time_ms),
            "items": items,
        }
        return Event(user.user_id, fields)
