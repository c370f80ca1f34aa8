"""What the users of a web shop do: they log in, look around, perhaps buy, and log out or just leave."""

from __future__ import annotations

from dataclasses import dataclass

from producer.events import FAR_MS, Contract, Event, Late, iso_utc, seeded
from producer.shop import Product, User, any_product, any_user

# How many are in a session at a time, and the share of events that start one while fewer are.
ONLINE = 40
SHARE_STARTING = 0.5
SHARE_LEFT = 0.03  # of events after a session's start: nothing follows, the user has just left

# What a user does next: the first of these that applies, below so much of a number from 0 to 1; else a page_view.
LOGOUT_BELOW = 0.06
ADD_BELOW = 0.20  # on a product's page
BUY_BELOW = 0.28  # with something in the cart
SEARCH_BELOW = 0.42

PAGES = ("/", "/sale", "/help")
DEVICES = ("mobile",) * 11 + ("desktop",) * 8 + ("tablet",)
SHARE_WITHOUT_DEVICE = 0.02  # of sessions: a browser that does not tell


@dataclass(slots=True)
class Session:
    """A user on the site."""

    user: User
    session_id: str
    device: str | None
    page: str | None = None
    product: Product | None = None
    in_cart: bool = False


class Events:
    """A seeded, endless source of valid user events; satisfies `EventSource`.

    A session is its login, then what its user does, then in most cases its logout. A user has one session at a time.
    """

    contract = Contract(
        time_field="timestamp",
        required=("event_id", "user_id", "event_type", "timestamp", "session_id", "country"),
        refused={
            "event_id": ("", "e" * 65),
            "user_id": ("", "u" * 257),
            "event_type": ("", "LOGIN", "click"),
            "session_id": ("",),
            "page": ("", "p" * 2049),
            "device": ("phone",),
            "country": ("de", "DEU", "Germany"),
        },
        lateness_ms=600_000,
        future_tolerance_ms=60_000,
        late=Late(share=0.002, age_ms=600_000, more_ms=FAR_MS),
        # Each record would have a delay of its own, and the order of a session would not show in its times.
        max_delay_ms=0,
    )

    def __init__(self, seed: int) -> None:
        self._rng = seeded("user_events", seed)
        self._online: list[Session] = []

    def event(self, time_ms: int) -> Event:
        """Make the next event of someone; the key is the user. Only `timestamp` depends on the time."""
        random, online = self._rng.random, self._online
        if not online or (len(online) < ONLINE and random() < SHARE_STARTING):
            session, event_type = self._started(), "login"
            online.append(session)
        else:
            at = int(random() * len(online))
            session = online[at]
            event_type = self._acted(session)
            if event_type == "logout" or random() < SHARE_LEFT:
                online[at] = online[-1]
                online.pop()
        fields: dict[str, object] = {
            "event_id": f"evt_{self._rng.getrandbits(96):024x}",
            "user_id": session.user.user_id,
            "event_type": event_type,
            "timestamp": iso_utc(time_ms),
            "session_id": session.session_id,
            "country": session.user.country,
        }
        if session.page and event_type not in {"login", "logout"}:
            fields["page"] = session.page
        if session.device:
            fields["device"] = session.device
        return Event(session.user.user_id, fields)

    def _started(self) -> Session:
        busy = {session.user for session in self._online}
        user = any_user(self._rng)
        while user in busy:
            user = any_user(self._rng)
        told = self._rng.random() >= SHARE_WITHOUT_DEVICE
        device = DEVICES[int(self._rng.random() * len(DEVICES))] if told else None
        return Session(user, f"session_{self._rng.getrandbits(64):016x}", device)

    def _acted(self, session: Session) -> str:
        """Let the user do something; return what."""
        draw = self._rng.random()
        if draw < LOGOUT_BELOW:
            return "logout"
        if draw < ADD_BELOW and session.product:
            session.in_cart = True
            return "add_to_cart"
        if draw < BUY_BELOW and session.in_cart:
            session.in_cart, session.product, session.page = False, None, "/checkout"
            return "purchase"
        if draw < SEARCH_BELOW:
            session.product, session.page = None, "/search"
            return "search"
        session.product = any_product(self._rng) if self._rng.random() < 0.7 else None
        session.page = session.product.page if session.product else PAGES[int(self._rng.random() * len(PAGES))]
        return "page_view"
