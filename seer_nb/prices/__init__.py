"""What machines cost: a dated sheet of list prices that ships with seer_nb, and your own rows, which win over it.

Your rows lie in ``prices.csv`` in the folder of the studies (SEER_HOME, or ./seer_studies), with the sheet's columns.
``seer-nb prices --refresh`` writes the present prices of AWS, Azure and GCP there.
"""

from __future__ import annotations

from seer_nb.prices.billing import billing_rule, surcharge_per_hour
from seer_nb.prices.lookup import price, sheet
from seer_nb.prices.record import PROVIDERS, Price

__all__ = ["PROVIDERS", "Price", "billing_rule", "price", "sheet", "surcharge_per_hour"]
