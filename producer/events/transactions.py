"""Card transactions that look real: people with cards, at home mostly, in shops of real cities."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from faker import Faker
from faker.providers.geo import Provider as Geo

from producer.events import FAR_MS, Contract, Event, Late, iso_utc, seeded

USERS = 1_000
MERCHANTS = 400
SHARE_ABROAD = 0.08
MAX_AMOUNT = 1_000_000.0
AMOUNT_SIGMA = 0.9

# The currencies that conf/feeds/transactions.toml allows, by the countries that pay in them.
CURRENCY = {
    "AE": "AED", "AU": "AUD", "BR": "BRL", "CA": "CAD", "CH": "CHF", "CN": "CNY", "CZ": "CZK", "DK": "DKK",
    "GB": "GBP", "HK": "HKD", "HU": "HUF", "ID": "IDR", "IL": "ILS", "IN": "INR", "JP": "JPY", "KR": "KRW",
    "MX": "MXN", "MY": "MYR", "NO": "NOK", "NZ": "NZD", "PH": "PHP", "PL": "PLN", "RO": "RON", "SE": "SEK",
    "SG": "SGD", "TH": "THB", "TR": "TRY", "US": "USD", "ZA": "ZAR",
    **dict.fromkeys(("AT", "BE", "DE", "ES", "FI", "FR", "GR", "IE", "IT", "NL", "PT"), "EUR"),
}  # fmt: skip

# The mean of the logarithm of the amounts of a category: groceries are cheap, travel is not.
CATEGORIES = {
    "groceries": 3.3, "restaurants": 3.2, "fuel": 3.7, "transport": 2.5, "fashion": 4.0, "electronics": 5.0,
    "health": 3.4, "entertainment": 3.1, "utilities": 4.3, "travel": 5.6,
}  # fmt: skip


class Place(NamedTuple):
    """A city with what follows from it."""

    city: str
    country: str
    lat: float
    lon: float
    currency: str


class Card(NamedTuple):
    """A card, the one user it belongs to, and where that user lives."""

    card_id: str
    user_id: str
    home: Place


class Merchant(NamedTuple):
    """A shop, what it sells, and the mean of the logarithm of what people spend there."""

    name: str
    category: str
    log_mean: float


class Pools(NamedTuple):
    """All that events are drawn from."""

    places: tuple[Place, ...]
    cards: tuple[Card, ...]
    merchants: tuple[Merchant, ...]


@cache
def pools() -> Pools:
    """Make the one world that every run shares, once, so that the rate does not suffer.

    It does not depend on the run's seed: a card must keep its user when another run has another seed.
    """
    fake = Faker("en_US")
    fake.seed_instance(0)
    rng = seeded("pools of transactions", 0)
    places = tuple(
        Place(city, country, float(lat), float(lon), CURRENCY[country])
        for lat, lon, city, country, _ in Geo.land_coords
        if country in CURRENCY
    )
    cards = []
    for number in range(USERS):
        user_id = f"{fake.first_name()}.{fake.last_name()}.{number:04d}".lower()
        home = rng.choice(places)
        cards += [Card(f"card_{rng.getrandbits(48):012x}", user_id, home) for _ in range(rng.choice((1, 1, 2, 3)))]
    names = sorted({fake.company() for _ in range(MERCHANTS)})
    categories = [(name, *rng.choice(list(CATEGORIES.items()))) for name in names]
    return Pools(places, tuple(cards), tuple(Merchant(*category) for category in categories))


class Events:
    """A seeded, endless source of valid transactions; satisfies `EventSource`."""

    contract = Contract(
        time_field="event_ts",
        required=(
            "txn_id", "event_ts", "user_id", "card_id", "merchant", "category", "amount", "currency",
            "status", "city", "country", "lat", "lon",
        ),
        refused={
            "txn_id": ("", "t" * 65),
            "merchant": ("", "m" * 257),
            "amount": (-0.01, -250.0, 1_000_000.01, 19.999),
            "currency": ("usd", "XXX", "EURO"),
            "status": ("APPROVED", "refunded"),
            "country": ("de", "DEU", "Germany"),
            "lat": (-90.5, 91.0),
            "lon": (-180.5, 200.0),
        },
        lateness_ms=180_000,
        future_tolerance_ms=60_000,
        late=Late(share=0.002, age_ms=180_000, more_ms=FAR_MS),
        max_delay_ms=500,
    )  # fmt: skip

    def __init__(self, seed: int) -> None:
        self._places, self._cards, self._merchants = pools()
        self._rng = seeded("transactions", seed)

    def event(self, time_ms: int) -> Event:
        """Make the next transaction; the key is its card. Only `event_ts` depends on the time."""
        rng = self._rng
        random = rng.random
        # Squared, a uniform number favours the front of the pool: few people buy much, many people little.
        card = self._cards[int(random() ** 2 * len(self._cards))]
        merchant, category, log_mean = self._merchants[int(random() * len(self._merchants))]
        abroad = random() < SHARE_ABROAD
        place = self._places[int(random() * len(self._places))] if abroad else card.home
        status = random()
        amount = round(rng.lognormvariate(log_mean, AMOUNT_SIGMA), 2)
        fields: dict[str, object] = {
            "txn_id": f"txn_{rng.getrandbits(128):032x}",
            "event_ts": iso_utc(time_ms),
            "user_id": card.user_id,
            "card_id": card.card_id,
            "merchant": merchant,
            "category": category,
            "amount": min(max(amount, 0.01), MAX_AMOUNT),
            "currency": place.currency,
            "status": "approved" if status < 0.93 else "declined" if status < 0.98 else "pending",
            "city": place.city,
            "country": place.country,
            "lat": place.lat,
            "lon": place.lon,
        }
        return Event(card.card_id, fields)
