"""Tables survive the shuffle, by value and by reference, whole and in slices, and no slice carries its parent."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.ids import Ids
from transforms.exchange import Exchange, decode, encode, id_columns, ids_of, named_batch, narrowed
from transforms.work_folder import WorkFolder

ROWS = 100_000


def table(name="sums:0", rows=ROWS):
    """A table whose first column ascends over all of uint64."""
    draw = np.random.default_rng(rows)
    high = np.sort(draw.integers(0, 2**64, rows, np.uint64))
    ids = Ids(high, draw.integers(0, 2**64, rows, np.uint64))
    return named_batch(name, id_columns(ids, "unit") | {"tally_0": draw.integers(-5, 5, rows), "text": pa.array(["é"] * rows)})


def sent_and_received(exchange, tables, shards):
    """The tables of each shard that got any."""
    elements = exchange.send(tables, shards)
    payloads = {shard: [payload for to, payload in elements if to == shard] for shard, _ in elements}
    return {shard: exchange.receive(parts) for shard, parts in payloads.items()}


@pytest.fixture(params=["by value", "by reference"])
def exchange(request, tmp_path):
    return Exchange(tmp_path if request.param == "by reference" else None)


@pytest.mark.parametrize("shards", [1, 2, 7, 64, 1024])
def test_every_row_arrives_once_at_the_shard_of_its_id(exchange, shards):
    tables = [table("sums:0"), table("names:1", 50)]
    received = sent_and_received(exchange, tables, shards)
    assert len(received) == shards
    for original in tables:
        name = original.schema.metadata[b"table"].decode()
        arrived = [batch for shard in sorted(received) for batch in received[shard].get(name, [])]
        assert pa.Table.from_batches(arrived).equals(pa.Table.from_batches([original]))
        assert arrived[0].schema.metadata == original.schema.metadata

    ranges = {}  # the least and the largest word of each shard, over both tables
    for shard, found in received.items():
        words = [word for batches in found.values() for batch in batches for word in batch.column(0).to_pylist()]
        ranges[shard] = (min(words), max(words))
    for shard in range(shards - 1):
        assert ranges[shard][1] < ranges[shard + 1][0]


def test_shards_without_rows_get_nothing(exchange):
    assert exchange.send([], 8) == []
    assert exchange.send([table(rows=0)], 8) == []
    assert len(exchange.send([table(rows=1)], 8)) == 1
    assert exchange.receive([]) == {}


def test_elements_by_value_are_small_and_those_by_reference_tiny(tmp_path):
    by_value = Exchange(None).send([table()], 2)
    assert len(by_value) > 2
    assert max(len(payload) for _, payload in by_value) < 4 << 20
    by_reference = Exchange(tmp_path).send([table()], 2)
    assert len(by_reference) == 2
    assert max(len(payload) for _, payload in by_reference) < 200


def test_payloads_on_disk_lie_in_a_folder_for_the_owner_only(tmp_path):
    folder = WorkFolder(tmp_path / "attempt")
    folder.create()
    assert Exchange(folder.batches).send([table(rows=10)], 2)
    assert len(list(folder.batches.iterdir())) == 1
    for path in (folder.path, folder.batches, folder.staged):
        assert path.stat().st_mode & 0o777 == 0o700


def test_a_slice_does_not_carry_its_parent():
    whole = table()
    small = encode([whole.slice(40_000, 10)])
    assert len(encode([whole])) > 2_000_000
    assert len(small) < 2_000
    (batch,) = decode(small)["sums:0"]
    assert batch.equals(whole.slice(40_000, 10))


def test_decode_of_several_tables_keeps_their_names_and_order():
    parts = [table("a", 3), table("b", 0), table("a", 5)]
    found = decode(encode(parts))
    assert {name: [batch.num_rows for batch in batches] for name, batches in found.items()} == {"a": [3, 5], "b": [0]}
    assert decode(b"") == {}


def test_ids_survive_as_64_unsigned_bits():
    ids = Ids(np.array([0, 2**63, 2**64 - 1], np.uint64), np.array([2**64 - 1, 0, 1], np.uint64))
    (batch,) = decode(encode([named_batch("t", id_columns(ids, "key"))]))["t"]
    found = ids_of(batch, "key")
    assert (found.high == ids.high).all()
    assert (found.low == ids.low).all()


ENDS = (0, 1, -1, 127, 128, 255, 256, -128, -129, 2**31, 2**32 - 1, 2**32, 2**53 + 1, 2**63 - 1, -(2**63), -(2**31) - 1)


@given(st.lists(st.sampled_from(ENDS) | st.integers(-(2**63), 2**63 - 1), max_size=20))
def test_n5_narrowed_keeps_every_integer(values):
    found = narrowed(np.array(values, np.int64))
    assert found.dtype.kind in "iu"
    assert found.tolist() == values


@pytest.mark.parametrize(
    ("values", "kind"), [([], "uint8"), ([255], "uint8"), ([-1, 127], "int8"), ([-129, 0], "int16"), ([2**32], "uint64")]
)
def test_narrowed_takes_the_narrowest_type(values, kind):
    assert narrowed(np.array(values, np.int64)).dtype == kind
