from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from vaectl.base.arrays import Array
from vaectl.models import numpy_engine, torch_engine
from vaectl.models import onnx_export as onnx_engine
from vaectl.models.layers import LAYERS, Layer, Linear, PixelShuffle, PixelUnshuffle, Sigmoid, SiLU, layer_shapes
from vaectl.models.network import build_conv, build_mlp, build_unet, half_weights

NETWORKS = {
    "mlp": build_mlp((6, 5, 3), 4, [50, 30], variational=True),
    "conv": build_conv((13, 10, 3), 4, [6, 8, 9], variational=True),
    "unet": build_unet((24, 16, 3), [6, 8, 10]),
}


def run_numpy(layers: list[Layer], batch: Array) -> Array:
    return numpy_engine.make_forward(layers, {})(batch)


def run_torch(layers: list[Layer], batch: Array) -> Array:
    return torch_engine.make_forward(layers, {}, "cpu")(batch)


def test_every_engine_knows_exactly_the_layers() -> None:
    assert set(numpy_engine.OPERATIONS) == set(torch_engine.MODULES) == set(onnx_engine.OPERATIONS) == set(LAYERS)


@pytest.mark.parametrize("half", ["encoder", "decoder"])
@pytest.mark.parametrize("net", NETWORKS)
def test_both_engines_compute_the_same_values(half: str, net: str) -> None:
    network = NETWORKS[net]
    rng = np.random.default_rng(0)
    weights = {
        name: (0.5 * rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        for name, shape in network.weight_shapes().items()
    }
    layers = dict(network.halves())[half]
    from_latent = half == "decoder" and network.has_latent
    batch = rng.random((7, *((network.latent_dim,) if from_latent else network.image_shape)), np.float32)
    ours = numpy_engine.make_forward(layers, half_weights(half, weights))(batch)
    theirs = torch_engine.make_forward(layers, half_weights(half, weights), "cpu")(batch)
    assert ours.dtype == theirs.dtype == np.float32
    assert ours.shape[1:] == layer_shapes(layers, batch.shape[1:])[-1]
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("run", [run_numpy, run_torch])
@pytest.mark.parametrize(
    ("layer", "module", "shape"),
    [
        (PixelUnshuffle(3), nn.PixelUnshuffle(3), (2, 6, 9, 2)),
        (PixelUnshuffle(2), nn.PixelUnshuffle(2), (1, 4, 6, 1)),
        (PixelShuffle(3), nn.PixelShuffle(3), (2, 2, 3, 18)),
        (PixelShuffle(2), nn.PixelShuffle(2), (1, 3, 2, 4)),
    ],
)
def test_pixel_shuffles_order_channels_as_torch_does(
    run: Callable[[list[Layer], Array], Array], layer: Layer, module: nn.Module, shape: tuple[int, ...]
) -> None:
    batch = np.random.default_rng(0).random(shape, np.float32)
    expected = module(torch.from_numpy(batch).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(run([layer], batch), expected)


@pytest.mark.parametrize(
    ("layer", "module", "shape"),
    [(PixelUnshuffle(3), nn.PixelUnshuffle(3), (2, 6, 9, 2)), (PixelShuffle(2), nn.PixelShuffle(2), (2, 3, 2, 8))],
)
def test_gradients_of_pixel_shuffles_are_those_of_torch(layer: Layer, module: nn.Module, shape: tuple[int, ...]) -> None:
    ours, theirs = (torch.rand(shape, generator=torch.Generator().manual_seed(0)).requires_grad_() for _ in range(2))
    result, expected = torch_engine.build_module([layer])(ours), module(theirs.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    for shuffled in (result, expected):
        (shuffled * torch.arange(shuffled.numel()).view(shuffled.shape)).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("run", [run_numpy, run_torch])
def test_pixel_shuffle_inverts_pixel_unshuffle(run: Callable[[list[Layer], Array], Array]) -> None:
    images = np.random.default_rng(0).random((2, 6, 9, 2), np.float32)
    np.testing.assert_array_equal(run([PixelUnshuffle(3), PixelShuffle(3)], images), images)


@pytest.mark.parametrize("layer", [SiLU(), Sigmoid()])
def test_activations_do_not_overflow_for_extreme_values(layer: Layer) -> None:
    values = np.array([[-1e4, -90, -20, -1, 0, 1, 20, 90, 1e4]], np.float32)
    expected = torch_engine.build_module([layer])(torch.from_numpy(values).double()).float().numpy()
    with np.errstate(all="raise", under="ignore"):
        result = run_numpy([layer], values)
    np.testing.assert_allclose(result, expected, atol=1e-5, rtol=1e-6)


def test_the_torch_engine_names_weights_as_checkpoints_do() -> None:
    network = build_mlp((4, 4, 1), 2, [5], variational=True)
    for half, layers in network.halves():
        state = torch_engine.build_module(layers).state_dict()
        assert {name: tuple(weight.shape) for name, weight in state.items()} == half_weights(half, network.weight_shapes())


def test_building_a_module_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    torch_engine.build_module([Linear(2, 2)])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_torch_engine_copies_its_weights() -> None:
    weights = {"0.weight": np.ones((2, 2), np.float32), "0.bias": np.zeros(2, np.float32)}
    forward = torch_engine.make_forward([Linear(2, 2)], weights, "cpu")
    weights["0.weight"][:] = 9
    assert forward(np.ones((1, 2), np.float32)).tolist() == [[2, 2]]
    assert not torch.is_inference_mode_enabled()
