"""The shape of the product's graph: one line, one leaf, two groupings, and the very composite that the tests compare."""

import itertools

import apache_beam as beam
import pytest
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor

from pipelines.graph import Sharding, bounded_sums, build_graph
from privacy.ids import new_secret
from tests.transforms import harness, world
from transforms.work_folder import WorkFolder


class Walk(PipelineVisitor):
    """Every node that is no composite, and every collection's consumers."""

    def __init__(self, pipeline: beam.Pipeline) -> None:
        self.leaves: list[AppliedPTransform] = []
        self.labels: list[tuple[str, str]] = []
        pipeline.visit(self)

    def enter_composite_transform(self, node):
        self._note(node)

    def visit_transform(self, node):
        self._note(node)
        self.leaves.append(node)

    def _note(self, node):
        self.labels.append((node.full_label, type(node.transform).__name__))


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    return harness.set_up(world.write(tmp_path_factory.mktemp("world")))


@pytest.fixture
def walk(setup, tmp_path):
    pipeline = beam.Pipeline(options=harness.runner_options([]))
    build_graph(pipeline, setup.inputs, Sharding(3, 2, True), new_secret(), WorkFolder(tmp_path))
    return Walk(pipeline)


def test_two_groupings_besides_the_reshuffles(walk):
    labels = [node.full_label for node in walk.leaves if isinstance(node.transform, beam.GroupByKey)]
    assert any("/Spread/" in label for label in labels)
    ours = [label for label in labels if "/ReshufflePerKey/" not in label]
    assert ours == ["BoundedSums/GroupByUnit", "BoundedSums/GroupByKey"]


def test_one_line_with_one_leaf(walk):
    assert len(walk.leaves) > 8
    for node in walk.leaves:
        assert not node.side_inputs, node.full_label
        assert len(node.inputs) == 1, node.full_label
        assert set(node.outputs) == {None}, node.full_label
    for before, after in itertools.pairwise(walk.leaves):
        assert after.inputs[0] is before.outputs[None], after.full_label
    consumed = [id(node.inputs[0]) for node in walk.leaves]
    assert len(set(consumed)) == len(consumed)


def test_noise_is_the_last_step_and_drawn_once(walk):
    assert walk.leaves[-1].full_label == "ReleaseKeys/Stage"
    assert sum(label == "ReleaseKeys" for label, _ in walk.labels) == 1


def test_what_the_reference_tests_run_is_what_the_product_runs(walk, setup, tmp_path):
    pipeline = beam.Pipeline(options=harness.runner_options([]))
    _ = pipeline | "BoundedSums" >> bounded_sums(setup.inputs, Sharding(3, 2, True), setup.secret, WorkFolder(tmp_path))
    alone = [label for label in Walk(pipeline).labels if label[0]]
    assert len(alone) > 10
    assert [label for label in walk.labels if label[0].startswith("BoundedSums")] == alone


def test_no_step_has_output_from_finish_bundle_or_keeps_state(walk):
    steps = [node.transform.fn for node in walk.leaves if isinstance(node.transform, beam.ParDo)]
    ours = [step for step in steps if type(step).__module__.startswith("transforms.")]
    assert len(ours) == 5
    for step in ours:
        assert type(step).finish_bundle is beam.DoFn.finish_bundle
