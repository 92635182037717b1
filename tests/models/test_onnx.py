"""Exported networks compute in ONNX Runtime what the NumPy engine computes."""

import numpy as np
import onnx
import pytest
from onnxruntime import InferenceSession

from vaectl.base.arrays import Array
from vaectl.base.errors import UsageError, VaectlError
from vaectl.models import numpy_engine
from vaectl.models.layers import (
    AddSkip,
    Clip,
    Conv2d,
    Flatten,
    Gate,
    Layer,
    Linear,
    PixelShuffle,
    PixelUnshuffle,
    PushSkip,
    ReLU,
    Unflatten,
)
from vaectl.models.network import Network, build_conv, build_mlp, build_unet, half_weights
from vaectl.models.onnx_export import encode_model
from vaectl.models.tiling import run_tiled

NETWORKS = {
    "mlp": build_mlp((6, 5, 3), 4, [50, 30], variational=True),
    "conv": build_conv((13, 10, 3), 4, [6, 8, 9], variational=True),
    "conv of a point": build_conv((13, 10, 1), 4, [6, 8], variational=False),
}
UNET = build_unet((24, 16, 3), [6, 8, 10])


def make_weights(network: Network) -> dict[str, Array]:
    """Random weights, small enough that the activations of residual blocks do not grow."""
    rng = np.random.default_rng(0)
    return {
        name: (0.5 * rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        for name, shape in network.weight_shapes().items()
    }


def run_numpy(network: Network, weights: dict[str, Array], half: str, batch: Array) -> Array:
    """One half of a network in the NumPy engine."""
    return numpy_engine.make_forward(dict(network.halves())[half], half_weights(half, weights))(batch)


def start(data: bytes) -> InferenceSession:
    """Check a model, shapes included, and make it ready to run."""
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    return InferenceSession(data)


def run(data: bytes, batch: Array) -> dict[str, Array]:
    """The outputs of a model with one input, by name."""
    session = start(data)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {session.get_inputs()[0].name: batch}), strict=True))


def check_equal(found: dict[str, Array], expected: dict[str, Array]) -> None:
    """Check that outputs have the same names, in this order, and the same values."""
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], values, atol=1e-5)


@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("net", NETWORKS)
def test_every_part_computes_what_numpy_computes(net: str, count: int) -> None:
    network = NETWORKS[net]
    weights = make_weights(network)
    images = np.random.default_rng(1).random((count, *network.image_shape), np.float32)
    encoded = run_numpy(network, weights, "encoder", images)
    latents = {"mu": encoded[:, :4], "logvar": encoded[:, 4:]} if network.variational else {"z": encoded}
    z = encoded[:, :4]
    decoded = run_numpy(network, weights, "decoder", z)
    assert np.ptp(z) > 0.01 and np.ptp(decoded) > 0.01
    check_equal(run(encode_model(network, weights, "encoder", {}), images), latents)
    check_equal(run(encode_model(network, weights, "decoder", {}), z), {"image": decoded})
    check_equal(run(encode_model(network, weights, "autoencoder", {}), images), {**latents, "reconstruction": decoded})


@pytest.mark.parametrize("size", [(24, 16), (75, 91), (8, 9), (3, 70), (1, 1)])
def test_a_unet_takes_images_of_any_size_as_denoise_does(size: tuple[int, int]) -> None:
    weights = make_weights(UNET)
    for count in (1, 3):
        images = np.random.default_rng(1).random((count, *size, 3), np.float32)
        expected = run_tiled(lambda batch: run_numpy(UNET, weights, "decoder", batch), UNET.decoder, images)
        assert np.abs(expected - images).max() > 0.1
        check_equal(run(encode_model(UNET, weights, "autoencoder", {}), images), {"reconstruction": expected})


def test_inputs_and_outputs_say_which_sizes_are_fixed() -> None:
    session = start(encode_model(NETWORKS["mlp"], make_weights(NETWORKS["mlp"]), "autoencoder", {}))
    shapes = {value.name: value.shape for value in (*session.get_inputs(), *session.get_outputs())}
    latent, image = ["batch", 4], ["batch", 6, 5, 3]
    assert shapes == {"image": image, "mu": latent, "logvar": latent, "reconstruction": image}
    session = start(encode_model(UNET, make_weights(UNET), "autoencoder", {}))
    assert session.get_inputs()[0].shape == session.get_outputs()[0].shape == ["batch", "height", "width", 3]


@pytest.mark.parametrize(
    "layers",
    [
        # Skip connections of vectors, and of images in both layouts.
        [PushSkip(), Flatten(), PushSkip(), Linear(96, 96), ReLU(), AddSkip(), Unflatten(4, 8, 3), AddSkip()],
        [Conv2d(3, 3, 3, 1), PushSkip(), Flatten(), Linear(96, 96), Unflatten(4, 8, 3), AddSkip()],
        # A reshape of an image to another.
        [Conv2d(3, 3, 1, 1), Unflatten(8, 4, 3), Conv2d(3, 3, 3, 1), Unflatten(4, 8, 3)],
        [PixelUnshuffle(4), PixelShuffle(2), Conv2d(12, 12, 3, 1), PixelShuffle(2), Conv2d(3, 6, 1, 1), Gate()],
        [Conv2d(3, 48, 5, 2), PixelShuffle(4), Conv2d(3, 3, 3, 2)],
        [PixelUnshuffle(2), Conv2d(12, 48, 5, 2), PixelShuffle(2), PixelShuffle(2)],
    ],
)
def test_layers_may_follow_one_another_in_any_order(layers: list[Layer]) -> None:
    network = Network((4, 8, 3), 0, (), (*layers, Clip()))
    weights = make_weights(network)
    images = np.random.default_rng(1).random((2, 4, 8, 3), np.float32)
    expected = run_numpy(network, weights, "decoder", images)
    check_equal(run(encode_model(network, weights, "autoencoder", {}), images), {"reconstruction": expected})


def test_an_image_is_transposed_at_the_ends_and_around_linear_layers_only() -> None:
    def count_transposes(network: Network) -> int:
        model = onnx.load_from_string(encode_model(network, make_weights(network), "autoencoder", {}))
        return sum(node.op_type == "Transpose" for node in model.graph.node)

    assert {net: count_transposes(network) for net, network in NETWORKS.items()} == {"mlp": 0, "conv": 4, "conv of a point": 4}
    assert count_transposes(UNET) == 2


def test_a_half_has_the_weights_of_this_half_only() -> None:
    network = NETWORKS["mlp"]
    weights = make_weights(network)
    model = onnx.load_from_string(encode_model(network, weights, "decoder", {}))
    assert {weight.name for weight in model.graph.initializer} >= {name for name in weights if name.startswith("decoder.")}
    assert not [weight.name for weight in model.graph.initializer if weight.name.startswith("encoder.")]


def test_what_cannot_be_exported_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    network = NETWORKS["mlp"]
    weights = make_weights(network)
    with pytest.raises(UsageError, match="part='half': choose one of autoencoder, encoder, decoder"):
        encode_model(network, weights, "half", {})
    with pytest.raises(VaectlError, match="this model, a unet, has no encoder"):
        encode_model(UNET, make_weights(UNET), "encoder", {})
    monkeypatch.setattr("vaectl.models.onnx_export.MAX_WEIGHT_BYTES", sum(weight.nbytes for weight in weights.values()) - 1)
    with pytest.raises(VaectlError, match=r"GB of weights, but an ONNX file holds .* GB: export the encoder and the decoder"):
        encode_model(network, weights, "autoencoder", {})
    encode_model(network, weights, "decoder", {})
