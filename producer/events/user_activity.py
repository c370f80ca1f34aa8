"""What people do in a web shop: they start a session, look around, perhaps buy, and end it or just leave."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple
from uuid import UUID

from faker import Faker

from producer.events import Contract, Event, Late, iso_utc, seeded

SITE = "https://shop.example.com"
USERS = 5_000
PRODUCTS = 240

# How many are in a session at a time: at five records a second each of them acts every 20 s or so, far within the
# 15 minutes of silence that close a session, and a session lasts some four minutes.
ONLINE = 100
SHARE_STARTING = 0.5  # of events while fewer are online

SHARE_LEFT = 0.03  # of events after a session's start: nothing follows, the user has just left

# What a user does next: the first of these that applies, below so much of a number from 0 to 1; else a page_view.
END_BELOW = 0.06
ADD_BELOW = 0.18  # on a product's page
BUY_BELOW = 0.25  # with something in the cart
CLICK_BELOW = 0.45

SECTIONS = ("beauty", "books", "electronics", "fashion", "garden", "home", "sports", "toys")
DEVICES = ("mobile",) * 11 + ("desktop",) * 8 + ("tablet",)
COUNTRIES = {
    "US": 24, "IN": 12, "GB": 9, "DE": 9, "BR": 8, "FR": 6, "JP": 5, "CA": 5, "ES": 4, "IT": 4, "MX": 3, "NL": 3,
    "AU": 3, "PL": 2, "SE": 2, "ZA": 1,
}  # fmt: skip


class User(NamedTuple):
    """Someone with an account, and where they live."""

    user_id: str
    country: str


class Page(NamedTuple):
    """A page of the site; a product's has a button that puts it into the cart."""

    url: str
    sells: bool = False


CHECKOUT = Page(f"{SITE}/checkout")


class Pools(NamedTuple):
    """All that events are drawn from."""

    users: tuple[User, ...]
    pages: tuple[Page, ...]


@cache
def pools() -> Pools:
    """Make the one world that every run shares, once, so that the rate does not suffer.

    It does not depend on the run's seed: a user must keep their country when another run has another seed.
    """
    fake = Faker("en_US")
    fake.seed_instance(0)
    rng = seeded("pools of user_activity", 0)
    countries = rng.choices(list(COUNTRIES), list(COUNTRIES.values()), k=USERS)
    users = tuple(User(f"user_{number:05d}", country) for number, country in enumerate(countries))
    general = [Page(SITE + path) for path in ("/", "/search", "/cart", *(f"/{section}" for section in SECTIONS))]
    products = [
        Page(f"{SITE}/{rng.choice(SECTIONS)}/{'-'.join(fake.words(2))}-{number:03d}", sells=True)
        for number in range(PRODUCTS)
    ]
    return Pools(users, (*general, *products))


@dataclass(slots=True)
class Session:
    """A user on the site."""

    user: User
    session_id: str
    device: str
    page: Page
    in_cart: bool = False  # whether there is something in it


class Events:
    """A seeded, endless source of valid user activity; satisfies `EventSource`.

    A session is its session_start, then what its user does, then in most cases its session_end. A user has one
    session at a time, and the next one only after all who have been offline for longer. Asked for rising times it
    tells each session in order; a late or future one is dated away from there, wherever it is.
    """

    contract = Contract(
        time_field="event_time",
        required=(
            "event_id", "user_id", "event_type", "page_url", "session_id", "event_time", "device", "country",
        ),
        refused={
            "event_id": ("", "e" * 65),
            "user_id": ("",),
            "event_type": ("", "PAGE_VIEW", "logout"),
            "page_url": ("", "u" * 2049),
            "session_id": ("",),
            "device": ("", "d" * 257),
            "country": ("de", "DEU", "Germany"),
        },
        lateness_ms=600_000,
        future_tolerance_ms=60_000,
        # Late for the windows, whose watermark is 2 minutes, but not for the contract.
        late=Late(share=0.05, age_ms=180_000),
        # Each record would have a delay of its own, and the order of a session would not show in its times.
        max_delay_ms=0,
    )  # fmt: skip

    def __init__(self, seed: int) -> None:
        users, self._pages = pools()
        self._rng = seeded("user_activity", seed)
        self._offline = deque(self._rng.sample(users, len(users)))
        self._online: list[Session] = []

    def event(self, time_ms: int) -> Event:
        """Make the next event of someone; the key is the user. Only `event_time` depends on the time."""
        random = self._rng.random
        online = self._online
        if not online or (len(online) < ONLINE and random() < SHARE_STARTING):
            session = self._started()
            online.append(session)
            event_type = "session_start"
        else:
            at = int(random() * len(online))
            session = online[at]
            event_type = self._acted(session)
            if event_type == "session_end" or random() < SHARE_LEFT:
                online[at] = online[-1]
                online.pop()
                self._offline.append(session.user)
        fields: dict[str, object] = {
            "event_id": str(UUID(int=self._rng.getrandbits(128), version=4)),
            "user_id": session.user.user_id,
            "event_type": event_type,
            "page_url": session.page.url,
            "session_id": session.session_id,
            "event_time": iso_utc(time_ms),
            "device": session.device,
            "country": session.user.country,
        }
        return Event(session.user.user_id, fields)

    def _started(self) -> Session:
        user = self._offline.popleft()
        session_id = f"session_{self._rng.getrandbits(64):016x}"
        return Session(user, session_id, DEVICES[int(self._rng.random() * len(DEVICES))], self._any_page())

    def _acted(self, session: Session) -> str:
        """Let the user do something; return what."""
        draw = self._rng.random()
        if draw < END_BELOW:
            return "session_end"
        if draw < ADD_BELOW and session.page.sells:
            session.in_cart = True
            return "add_to_cart"
        if draw < BUY_BELOW and session.in_cart:
            session.in_cart = False
            session.page = CHECKOUT
            return "purchase"
        if draw < CLICK_BELOW:
            return "click"
        session.page = self._any_page()
        return "page_view"

    def _any_page(self) -> Page:
        # Cubed, a uniform number favours the front of the pool by far: the home page, the sections, a few products.
        return self._pages[int(self._rng.random() ** 3 * len(self._pages))]
