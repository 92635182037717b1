import json
from typing import Any

import pytest

from vaectl.base.shapes import Shape
from vaectl.models.layers import (
    LAYERS,
    MAX_LAYERS,
    AddSkip,
    Clip,
    Conv2d,
    Crop,
    Flatten,
    Layer,
    Linear,
    PixelShuffle,
    PixelUnshuffle,
    PushSkip,
    Sigmoid,
    SiLU,
    Unflatten,
    count_macs,
    layer_shapes,
    layers_from_json,
    layers_to_json,
)
from vaectl.models.network import Network, build_conv, build_mlp, build_unet, half_weights, network_from_json, network_to_json


def test_the_decoder_of_an_mlp_mirrors_its_encoder() -> None:
    network = build_mlp((28, 28, 1), 10, [500, 400], variational=True)
    assert network.variational and network.has_latent and not network.outputs_pixels
    assert network.max_fan_in == 784
    assert network.weight_shapes() == {
        "encoder.1.weight": (500, 784),
        "encoder.1.bias": (500,),
        "encoder.3.weight": (400, 500),
        "encoder.3.bias": (400,),
        "encoder.5.weight": (20, 400),
        "encoder.5.bias": (20,),
        "decoder.0.weight": (400, 10),
        "decoder.0.bias": (400,),
        "decoder.2.weight": (500, 400),
        "decoder.2.bias": (500,),
        "decoder.4.weight": (784, 500),
        "decoder.4.bias": (784,),
    }


def test_an_encoder_that_is_not_variational_outputs_a_point() -> None:
    network = build_mlp((8, 8, 3), 5, [20], variational=False)
    assert not network.variational
    assert network.weight_shapes()["encoder.3.weight"] == (5, 20)


def test_half_weights_drops_the_prefix() -> None:
    weights = {"encoder.0.weight": 1, "decoder.0.weight": 2, "decoder.0.bias": 3}
    assert half_weights("decoder", weights) == {"0.weight": 2, "0.bias": 3}


@pytest.mark.parametrize(
    "network",
    [
        build_mlp((28, 20, 3), 2, [30], variational=True),
        build_conv((13, 10, 1), 4, [6, 8], variational=False),
        build_unet((24, 16, 3), [6, 8, 10]),
    ],
)
def test_networks_survive_json(network: Network) -> None:
    assert network_from_json(json.loads(json.dumps(network_to_json(network)))) == network


def test_the_names_of_layers_and_fields_in_json_do_not_change() -> None:
    layers: list[Layer] = [
        Linear(1, 2),
        Conv2d(1, 2, 3, 4),
        Crop(1, 2),
        PixelUnshuffle(2),
        PixelShuffle(2),
        Unflatten(1, 2, 3),
    ]
    values = [
        {"layer": "linear", "in_features": 1, "out_features": 2},
        {"layer": "conv2d", "in_channels": 1, "out_channels": 2, "kernel_size": 3, "stride": 4},
        {"layer": "crop", "height": 1, "width": 2},
        {"layer": "pixel_unshuffle", "downscale_factor": 2},
        {"layer": "pixel_shuffle", "upscale_factor": 2},
        {"layer": "unflatten", "height": 1, "width": 2, "channels": 3},
    ]
    assert layers_to_json(layers) == values
    assert layers_from_json(values) == tuple(layers)
    without_fields = {"flatten", "silu", "relu", "sigmoid", "clip", "push_skip", "add_skip", "gate"}
    assert LAYERS.keys() == {value["layer"] for value in values} | without_fields


@pytest.mark.parametrize(
    "value",
    [
        {"layer": "attention"},
        {"layer": "linear", "in_features": 3},
        {"layer": "linear", "in_features": 3, "out_features": 0},
        {"layer": "linear", "in_features": 3, "out_features": 2.5},
        {"layer": "linear", "in_features": 3, "out_features": True},
        {"layer": "linear", "in_features": 3, "out_features": 2**40},
        {"layer": "silu", "in_features": 3},
        {"layer": ["linear"]},
        {},
        "linear",
    ],
)
def test_an_unknown_or_invalid_layer_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"unknown layer|invalid layer"):
        layers_from_json([value])


@pytest.mark.parametrize("values", [None, {"layer": "silu"}, "silu", [{"layer": "silu"}] * (MAX_LAYERS + 1)])
def test_only_a_list_of_at_most_max_layers_is_accepted(values: object) -> None:
    with pytest.raises(ValueError, match=f"list of at most {MAX_LAYERS}"):
        layers_from_json(values)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_shape", None),
        ("image_shape", "881"),
        ("image_shape", [8.0, 8, 1]),
        ("image_shape", [True, 8, 1]),
        ("image_shape", [8, 8]),
        ("image_shape", [8, 0, 1]),
        ("image_shape", [8, 8, 2]),
        ("latent_dim", "2"),
        ("latent_dim", 2.0),
        ("latent_dim", True),
        ("latent_dim", [2]),
        ("latent_dim", -2),
        ("latent_dim", 0),
        ("encoder", None),
        ("decoder", {}),
    ],
)
def test_a_network_with_an_invalid_value_is_refused(key: str, value: object) -> None:
    values = network_to_json(build_mlp((8, 8, 1), 2, [5], variational=True))
    with pytest.raises(ValueError):
        network_from_json({**values, key: value})


@pytest.mark.parametrize("values", [None, 3, "network", [], {}, {"image_shape": [8, 8, 1], "latent_dim": 2}])
def test_anything_but_a_network_is_refused(values: Any) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        network_from_json(values)


def test_layers_that_do_not_fit_together_are_refused() -> None:
    encoder = (Flatten(), Linear(784, 4))
    decoder = (Linear(2, 784), Unflatten(28, 28, 1), Sigmoid())
    assert Network((28, 28, 1), 2, encoder, decoder).variational
    with pytest.raises(ValueError, match="expects 783 features"):
        Network((28, 28, 1), 2, (Flatten(), Linear(783, 4)), decoder)
    with pytest.raises(ValueError, match="encoder outputs"):
        Network((28, 28, 1), 2, (Flatten(), Linear(784, 3)), decoder)
    with pytest.raises(ValueError, match="encoder outputs"):
        Network((28, 28, 1), 2, (), decoder)
    with pytest.raises(ValueError, match="decoder does not output pixels"):
        Network((28, 28, 1), 2, encoder, decoder[:-1])
    with pytest.raises(ValueError, match="does not unflatten"):
        Network((28, 28, 1), 2, encoder, (Linear(2, 784), Unflatten(28, 27, 1), Sigmoid()))
    with pytest.raises(ValueError, match="decoder does not output pixels"):
        Network((28, 28, 1), 2, encoder, (Linear(2, 768), Unflatten(32, 24, 1), Sigmoid()))
    with pytest.raises(ValueError, match="decoder does not output pixels"):
        Network((28, 28, 1), 0, (), ())
    with pytest.raises(ValueError, match="without a latent"):
        Network((28, 28, 1), 0, (SiLU(),), (Clip(),))


def test_too_many_weights_are_refused_before_memory_is_allocated() -> None:
    with pytest.raises(ValueError, match="more than"):
        build_mlp((28, 28, 1), 2, [2**30, 2**30], variational=True)


@pytest.mark.parametrize("image_shape", [(28, 28, 1), (64, 48, 3), (1, 40, 1), (7, 5, 3), (256, 256, 3)])
def test_a_conv_network_halves_and_doubles_images_of_any_size(image_shape: Shape) -> None:
    network = build_conv(image_shape, 6, [16, 32], variational=True)
    assert network.variational
    height, width = (-(-size // 4) for size in image_shape[:2])
    assert (height, width, 32) in layer_shapes(network.encoder, image_shape)
    assert layer_shapes(network.decoder, (6,))[-1] == image_shape


def test_a_unet_has_no_latent_and_accepts_every_multiple_of_its_scales() -> None:
    network = build_unet((64, 64, 3), [8, 12, 16])
    assert not network.has_latent and not network.variational and network.outputs_pixels
    assert network.encoder == () and network.max_fan_in == 1
    assert layer_shapes(network.decoder, (88, 128, 3))[-1] == (88, 128, 3)
    with pytest.raises(ValueError, match="multiples of 8"):
        build_unet((64, 60, 3), [8, 12, 16])


def test_every_skip_connection_must_be_added_to_its_own_shape() -> None:
    assert layer_shapes([PushSkip(), Conv2d(1, 1, 3, 1), AddSkip()], (4, 4, 1))[-1] == (4, 4, 1)
    with pytest.raises(ValueError, match="never added"):
        layer_shapes([PushSkip()], (4, 4, 1))
    with pytest.raises(ValueError, match="no skip connection"):
        layer_shapes([PushSkip(), Conv2d(1, 2, 3, 1), AddSkip()], (4, 4, 1))
    with pytest.raises(ValueError, match="no skip connection"):
        layer_shapes([AddSkip()], (4, 4, 1))


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (Conv2d(3, 4, 3, 1), (4, 4, 1), "expects 3 channels"),
        (Conv2d(1, 4, 4, 1), (4, 4, 1), "odd kernel"),
        (Conv2d(1, 4, 3, 1), (16,), "expected an image"),
        (PixelUnshuffle(2), (16,), "expected an image"),
        (Conv2d(1, 2**20, 1, 1), (2**8, 2**8, 1), "activations"),
        (Crop(5, 4), (4, 4, 1), "too small to crop"),
        (PixelUnshuffle(3), (4, 6, 1), "not multiples of 3"),
        (PixelShuffle(2), (4, 4, 3), "not a multiple of 4"),
    ],
)
def test_a_layer_refuses_a_shape_that_does_not_fit(layer: Layer, shape: Shape, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer_shapes([layer], shape)


def test_macs_are_counted_at_every_output_pixel() -> None:
    layers = [Conv2d(1, 4, 3, 2), SiLU(), Flatten(), Linear(4 * 5 * 4, 7)]
    assert count_macs(layers, (8, 9, 1)) == 4 * 5 * 4 * 9 + 80 * 7
