"""The comparator without privacy: the same bounds in SQL on DuckDB, written to Parquet.

usage: python duckdb_bounded.py EVENTS_FOLDER OUT.parquet      needs: requirements-duckdb.txt
"""

import sys

import duckdb

events, out = sys.argv[1:3]
duckdb.connect().execute(f"""
set threads = 2;
copy (
  with per_unit_key as (
    select user_id, product, count(*) as n, sum(least(amount, 100)) as total
    from '{events}/*.parquet' group by all),
  ranked as (
    select *, row_number() over (partition by user_id order by hash(user_id || product)) as key_rank
    from per_unit_key)
  select product, sum(least(n, 5)) as purchases, sum(least(total, 500)) as revenue, count(*) as customers
  from ranked where key_rank <= 8 group by product order by product
) to '{out}' (format parquet)""")
