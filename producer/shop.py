"""The one web shop that user_events and transaction_events tell of: its users, its products, and where they live."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import NamedTuple

from faker import Faker

from producer.events import seeded

USERS = 500
PRODUCTS = 120
SECTIONS = ("beauty", "books", "electronics", "fashion", "garden", "home", "sports", "toys")
# The countries of users, how many of a hundred live there, and what they pay in.
COUNTRIES = {
    "US": (26, "USD"), "DE": (14, "EUR"), "GB": (13, "GBP"), "FR": (11, "EUR"), "BR": (8, "BRL"), "JP": (7, "JPY"),
    "CA": (6, "CAD"), "ES": (6, "EUR"), "AU": (5, "AUD"), "SE": (4, "SEK"),
}  # fmt: skip


class User(NamedTuple):
    """Someone with an account."""

    user_id: str
    country: str
    currency: str


class Product(NamedTuple):
    """Something that the shop sells, and its price, in whatever currency."""

    product_id: str
    page: str
    price: float


@cache
def users() -> tuple[User, ...]:
    """Make the users, the same in every run: a join of both feeds finds partners, whatever their seeds."""
    rng = seeded("users of the shop", 0)
    shares = [share for share, _ in COUNTRIES.values()]
    homes = rng.choices([(country, currency) for country, (_, currency) in COUNTRIES.items()], shares, k=USERS)
    return tuple(User(f"user_{number:04d}", *home) for number, home in enumerate(homes))


@cache
def products() -> tuple[Product, ...]:
    """Make the products, the same in every run."""
    fake = Faker("en_US")
    fake.seed_instance(0)
    rng = seeded("products of the shop", 0)
    return tuple(
        Product(
            f"product_{number:03d}",
            f"/{rng.choice(SECTIONS)}/{'-'.join(fake.words(2))}-{number:03d}",
            max(round(rng.lognormvariate(3.2, 0.8), 2), 0.5),
        )
        for number in range(PRODUCTS)
    )


def any_user(rng: Random) -> User:
    """Draw a user; squared, a uniform number favours the front of the pool: few are here often, many seldom."""
    return users()[int(rng.random() ** 2 * USERS)]


def any_product(rng: Random) -> Product:
    """Draw a product, some far more often than others."""
    return products()[int(rng.random() ** 2 * PRODUCTS)]
