"""Everything below the noise: from the parts of files to the exact bounded sums per key."""

from collections.abc import Sequence
from dataclasses import dataclass

import apache_beam as beam

from transforms.bound_contributions import BoundContributions
from transforms.exchange import Exchange
from transforms.read_events import EventsPlan, FilePart, ReadEvents
from transforms.sum_by_key import SumByKey
from transforms.sum_by_unit import ReleaseInput, SumByUnit, UnitInput
from transforms.work_folder import WorkFolder


@dataclass(eq=False, kw_only=True)
class BoundedSums(beam.PTransform[beam.pvalue.PBegin, beam.PCollection[tuple[int, bytes]]]):
    """The whole pipeline up to the noise: (key shard, tables) as in `SumByKey`.

    Guarantee: one unit changes the sums of a stage by a vector over keys of at most the stage's norm. The sums depend on
    the events alone: not on their order, nor on parts, shards, workers, retries or exchange.
    Source: docs/guarantee.md, "Bounded sums".
    """

    parts: Sequence[FilePart]
    events: EventsPlan
    unit: UnitInput
    releases: Sequence[ReleaseInput]
    secret: bytes
    unit_shards: int
    key_shards: int
    exchange: Exchange
    folder: WorkFolder

    def expand(self, input_or_inputs: beam.pvalue.PBegin) -> beam.PCollection[tuple[int, bytes]]:
        return (
            input_or_inputs
            | "Parts" >> beam.Create(range(len(self.parts)), reshuffle=False)
            # Without it, the local runner gives all parts to one worker.
            | "Spread" >> beam.Reshuffle()
            | "ReadEvents" >> ReadEvents(parts=self.parts, plan=self.events, folder=self.folder)
            | "SumByUnit"
            >> SumByUnit(
                unit=self.unit,
                releases=self.releases,
                secret=self.secret,
                shards=self.unit_shards,
                exchange=self.exchange,
                folder=self.folder,
            )
            | "GroupByUnit" >> beam.GroupByKey()
            | "BoundContributions"
            >> BoundContributions(
                releases=self.releases,
                secret=self.secret,
                shards=self.key_shards,
                exchange=self.exchange,
                folder=self.folder,
            )
            | "GroupByKey" >> beam.GroupByKey()
            | "SumByKey" >> SumByKey(releases=self.releases, exchange=self.exchange, folder=self.folder)
        )
