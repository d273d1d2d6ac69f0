"""A search inside a graph answers as the same search in torch, for every shape, with each weight stored once."""

from collections import Counter

import numpy as np
import pytest
import torch

from components.export.initializers import all_initializers, all_nodes
from components.export.loop import build_graph
from components.export.torch_session import TorchSession
from components.inference.session import open_session
from components.models.rnn import RecurrentSeq2Seq
from components.tasks.translation import TASK, SearchOptions
from tests.unit.models.test_seq2seq import EOS, PAD, transformer


@pytest.mark.parametrize(("architecture", "beam"), [("transformer", 1), ("transformer", 3), ("gru", 2), ("lstm", 1)])
def test_graph_answers_as_torch_does(architecture: str, beam: int) -> None:
    torch.manual_seed(1)
    model = transformer() if architecture == "transformer" else None
    model = model or RecurrentSeq2Seq(30, 40, width=16, layers=2, cell=architecture, dropout=0.1, pad=PAD)  # type: ignore[arg-type]
    with torch.no_grad():  # so that the rows of a batch end at different steps, and some never
        for parameter in model.parameters():
            parameter.mul_(1 if architecture == "transformer" else 4)
        model.output_bias[EOS] = 2.0
    (spec,) = TASK.graphs(model.eval(), SearchOptions(beam=beam, max_length=12))
    graph = build_graph(spec)
    session, reference = open_session(graph.SerializeToString()), TorchSession(spec)
    rng, lengths = np.random.default_rng(0), set[int]()
    for rows, length in ((1, 1), (1, 9), (4, 3), (17, 6)):
        source = rng.integers(4, 30, (rows, length))
        source[:, -1] = EOS
        if rows > 1:
            source[0, 1:], source[0, 1] = PAD, EOS
        got, expected = (s.run(["target"], {"source": source})[0] for s in (session, reference))
        np.testing.assert_array_equal(got, expected)
        lengths.update(int((row != PAD).sum()) for row in got)
    assert len(lengths) >= 3, lengths
    stored = sum(np.prod(t.dims) for t in all_initializers(graph) if t.data_type == 1)
    parameters = sum(p.numel() for p in model.parameters())
    assert stored < 1.2 * parameters + 6000  # the position table and masks come on top
    times = Counter(t.raw_data for t in all_initializers(graph) if len(t.raw_data) > 1024)
    positions = {p.numpy().tobytes() for name, p in model.named_buffers() if name.endswith("positions")}
    assert {data for data, count in times.items() if count > 1} <= positions
    assert set(times) - positions  # weights that large are there
    assert sum(node.op_type == "Loop" for node in all_nodes(graph)) == 2


def test_export_gives_the_same_bytes_twice() -> None:
    torch.manual_seed(1)
    model = transformer().eval()
    graphs = [build_graph(TASK.graphs(model, SearchOptions(beam=2))[0]).SerializeToString() for _ in range(2)]
    assert graphs[0] == graphs[1]
