import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vaectl import networks
from vaectl.engines import numpy as numpy_engine
from vaectl.engines import torch as torch_engine
from vaectl.layers import ROWS, Fold, Linear, Row, Sigmoid, Silu, Unfold, walk
from vaectl.networks import weights_of


def test_both_engines_speak_the_whole_vocabulary_and_nothing_else() -> None:
    assert set(numpy_engine.LAYERS) == set(torch_engine.LAYERS) == set(ROWS.values())


NETWORKS = {
    "mlp": networks.mlp((6, 5, 3), 4, [50, 30], variational=True),
    "conv": networks.conv((13, 10, 3), 4, [6, 8, 9], variational=True),
    "unet": networks.unet((24, 16, 3), [6, 8, 10]),
}


@pytest.mark.parametrize("half", ["encoder", "decoder"])
@pytest.mark.parametrize("net", NETWORKS)
def test_both_engines_give_the_same_numbers(half: str, net: str) -> None:
    network = NETWORKS[net]
    rng = np.random.default_rng(0)
    tensors = {
        name: (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        for name, shape in network.tensors().items()
    }
    rows = dict(network.halves())[half]
    batch = rng.random((7, *(network.picture if half == "encoder" or not network.latent else (4,))), np.float32)
    ours = numpy_engine.runner(rows, weights_of(half, tensors))(batch)
    theirs = torch_engine.runner(rows, weights_of(half, tensors), "cpu")(batch)
    assert ours.dtype == theirs.dtype == np.float32
    assert ours.shape[1:] == walk(rows, batch.shape[1:])[-1]
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_folded_pixels_unfold_to_where_they_were() -> None:
    picture = np.random.default_rng(0).random((2, 6, 9, 2), np.float32)
    folded = numpy_engine.runner([Fold(3)], {})(picture)
    assert folded[1, 1, 2].tolist() == picture[1, 3:6, 6:9].flatten().tolist()
    np.testing.assert_array_equal(numpy_engine.runner([Fold(3), Unfold(3)], {})(picture), picture)


@pytest.mark.parametrize("row", [Silu(), Sigmoid()])
def test_activations_are_right_far_out_and_warn_of_nothing(row: Row) -> None:
    values = np.array([[-1e4, -90, -20, -1, 0, 1, 20, 90, 1e4]], np.float32)
    expected: NDArray[np.float32] = torch_engine.module([row])(torch.from_numpy(values).double()).float().numpy()
    with np.errstate(all="raise", under="ignore"):
        result = numpy_engine.runner([row], {})(values)
    np.testing.assert_allclose(result, expected, atol=1e-5, rtol=1e-6)


def test_the_torch_engine_names_weights_as_checkpoints_do() -> None:
    network = networks.mlp((4, 4, 1), 2, [5], variational=True)
    for half, rows in network.halves():
        state = torch_engine.module(rows).state_dict()
        assert {name: tuple(tensor.shape) for name, tensor in state.items()} == weights_of(half, network.tensors())


def test_a_torch_runner_leaves_the_arrays_it_was_given_alone() -> None:
    tensors = {"0.weight": np.ones((2, 2), np.float32), "0.bias": np.zeros(2, np.float32)}
    run = torch_engine.runner([Linear(2, 2)], tensors, "cpu")
    tensors["0.weight"][:] = 9
    assert run(np.ones((1, 2), np.float32)).tolist() == [[2, 2]]
    assert not torch.is_inference_mode_enabled()
