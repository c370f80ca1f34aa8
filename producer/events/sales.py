"""Sales of a shop that look real: few clients, few products, and now and then an amount that does not add up."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from producer.events import FAR_MS, Contract, Event, Late, seeded
from producer.events import iso_utc as with_offset

SHARE_WRONG_AMOUNTS = 0.01
MOST_PIECES = 5


class Client(NamedTuple):
    """Who buys, as conf/reference/clients.csv has them."""

    client_id: int
    client_nom: str
    pays: str
    segment: str


class Product(NamedTuple):
    """What is bought, as conf/reference/produits.csv has it."""

    produit_id: int
    produit_nom: str
    categorie: str
    prix: Decimal


CLIENTS = (
    Client(1, "Jean Dupont", "France", "Particulier"),
    Client(2, "Maria Garcia", "Spain", "Particulier"),
    Client(3, "John Smith", "UK", "Enterprise"),
    Client(4, "Anna Mueller", "Germany", "Particulier"),
    Client(5, "Paolo Rossi", "Italy", "Enterprise"),
)
PRODUCTS = (
    Product(101, "Ordinateur portable", "Electronics", Decimal("899.99")),
    Product(102, "Souris sans fil", "Electronics", Decimal("25.50")),
    Product(103, "Clavier mecanique", "Electronics", Decimal("75.00")),
    Product(104, "Casque audio", "Electronics", Decimal("59.99")),
    Product(105, "Livre Data Science", "Books", Decimal("19.99")),
)


class Events:
    """A seeded, endless source of valid sales; satisfies `EventSource`.

    One in a hundred has an amount that is not the quantity times the price, and the feed warns of that.
    """

    contract = Contract(
        time_field="timestamp",
        required=(
            "vente_id", "client_id", "produit_id", "timestamp", "quantite", "montant",
            "client_nom", "produit_nom", "categorie", "pays", "segment",
        ),
        refused={
            "montant": (-0.01, -899.99, 19.999),
            "quantite": (0, -1),
        },
        unknown={"client_id": (0, 6, 999), "produit_id": (100, 106, 9_999)},
        lateness_ms=600_000,
        future_tolerance_ms=60_000,
        late=Late(share=0.002, age_ms=600_000, more_ms=FAR_MS),
        max_delay_ms=500,
        topic="ventes_stream",
    )  # fmt: skip

    def __init__(self, seed: int) -> None:
        self._rng = seeded("sales", seed)

    def event(self, time_ms: int) -> Event:
        """Make the next sale; the key is its client. Only `timestamp` depends on the time, in UTC without an offset."""
        random = self._rng.random
        client = CLIENTS[int(random() * len(CLIENTS))]
        # Squared, a uniform number favours the end: many books are sold, few computers.
        product = PRODUCTS[-1 - int(random() ** 2 * len(PRODUCTS))]
        quantite = 1 + int(random() ** 2 * MOST_PIECES)
        montant = quantite * product.prix
        if random() < SHARE_WRONG_AMOUNTS:
            montant -= Decimal("0.01") * (1 + int(random() * 1_000))
        fields: dict[str, object] = {
            "vente_id": self._rng.getrandbits(62),
            "client_id": client.client_id,
            "produit_id": product.produit_id,
            "timestamp": with_offset(time_ms).removesuffix("Z"),
            "quantite": quantite,
            "montant": float(montant),
            "client_nom": client.client_nom,
            "produit_nom": product.produit_nom,
            "categorie": product.categorie,
            "pays": client.pays,
            "segment": client.segment,
        }
        return Event(str(client.client_id), fields)
