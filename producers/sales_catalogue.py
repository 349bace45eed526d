"""What the generated sales sell and where: products with their prices, and stores."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from producers.sales_patterns import CATEGORIES, REGIONS

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int16]

PRODUCTS_PER_CATEGORY = 12
QUANTITY_SHARES = (0.62, 0.23, 0.10, 0.05)  # of 1, 2, 3 and 4 pieces
DISCOUNT_SHARES = {0: 0.70, 10: 0.15, 20: 0.10, 30: 0.05}  # per cent off the list price


@dataclass(frozen=True)
class Catalogue:
    """What can be sold. An outcome is (category, region, product of the category, quantity), flattened.

    `shares` are the probabilities of product and quantity, given category and region.
    """

    shares: Floats
    category: Codes  # per outcome
    region: Codes
    product: Codes
    quantity: npt.NDArray[np.int32]
    price_cents: npt.NDArray[np.int64]  # [product, discount]
    first_store_of: Codes  # per region
    stores_of: Codes
    names: dict[str, pa.Array]  # by column, in order of code


@cache
def catalogue() -> Catalogue:
    """The one catalogue, derived from the tables of categories and regions."""
    shape = (len(CATEGORIES), len(REGIONS), PRODUCTS_PER_CATEGORY, len(QUANTITY_SHARES))
    category, region, item, pieces = (axis.ravel().astype(np.int16) for axis in np.indices(shape))
    popularity = 1 / (np.arange(PRODUCTS_PER_CATEGORY) + 3)
    stores = np.array([each.stores for each in REGIONS.values()], dtype=np.int16)
    return Catalogue(
        shares=np.outer(popularity / popularity.sum(), QUANTITY_SHARES).ravel(),
        category=category,
        region=region,
        product=category * np.int16(PRODUCTS_PER_CATEGORY) + item,
        quantity=pieces.astype(np.int32) + 1,
        price_cents=_prices(),
        first_store_of=np.cumsum(stores, dtype=np.int16) - stores,
        stores_of=stores,
        names={
            "store": pa.array([f"store-{number:03}" for number in range(1, int(stores.sum()) + 1)]),
            "region": pa.array(list(REGIONS)),
            "product": pa.array(
                [f"{c}-{n:02}" for c in CATEGORIES for n in range(1, PRODUCTS_PER_CATEGORY + 1)]
            ),
            "category": pa.array(list(CATEGORIES)),
        },
    )


def _prices() -> npt.NDArray[np.int64]:
    """Prices in cents [product, discount]: from half to twice the category's, ending in 9 before discount."""
    spread = np.geomspace(0.5, 2.0, PRODUCTS_PER_CATEGORY)
    middling = np.array([each.price_cents for each in CATEGORIES.values()])
    listed = np.outer(middling, spread).ravel().astype(np.int64) // 10 * 10 + 9
    prices: npt.NDArray[np.int64] = listed[:, None] * (100 - np.array(list(DISCOUNT_SHARES))) // 100
    return prices
