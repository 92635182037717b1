import pytest

from vaectl import layers, models, networks
from vaectl.layers import Add, Conv, Crop, Flatten, Fold, Keep, Linear, Reshape, Row, Sigmoid, Silu, Unfold, Upsample
from vaectl.networks import Network


def test_an_mlp_mirrors_itself_and_names_its_weights() -> None:
    network = networks.mlp((28, 28, 1), 10, [500, 400], variational=True)
    assert network.variational
    assert network.tensors() == {
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


def test_without_a_distribution_the_encoder_gives_a_point() -> None:
    network = networks.mlp((8, 8, 3), 5, [20], variational=False)
    assert not network.variational
    assert network.tensors()["encoder.3.weight"] == (5, 20)


def test_rows_survive_json() -> None:
    network = networks.mlp((28, 20, 3), 2, [30], variational=True)
    assert layers.from_json(layers.to_json(network.encoder)) == network.encoder
    assert layers.from_json(layers.to_json(network.decoder)) == network.decoder


@pytest.mark.parametrize(
    "row",
    [
        {"layer": "attention"},
        {"layer": "linear", "inputs": 3},
        {"layer": "linear", "inputs": 3, "outputs": 0},
        {"layer": "linear", "inputs": 3, "outputs": 2.5},
        {"layer": "linear", "inputs": 3, "outputs": True},
        {"layer": "linear", "inputs": 3, "outputs": 2**40},
        {"layer": "silu", "inputs": 3},
        {"layer": ["linear"]},
        "linear",
    ],
)
def test_a_row_that_is_not_in_the_vocabulary_is_refused(row: object) -> None:
    with pytest.raises(ValueError, match=r"layer|row"):
        layers.from_json([row])


def test_rows_that_do_not_fit_each_other_are_refused() -> None:
    decoder = (Linear(2, 784), Reshape(28, 28, 1), Sigmoid())
    with pytest.raises(ValueError, match="takes 783 values"):
        Network((28, 28, 1), 2, (Flatten(), Linear(783, 4)), decoder)
    with pytest.raises(ValueError, match="encoder ends in"):
        Network((28, 28, 1), 2, (Flatten(), Linear(784, 3)), decoder)
    with pytest.raises(ValueError, match="decoder does not end in pixels"):
        Network((28, 28, 1), 2, (Flatten(), Linear(784, 4)), decoder[:-1])
    with pytest.raises(ValueError, match="does not fill"):
        Network((28, 28, 1), 2, (Flatten(), Linear(784, 4)), (Linear(2, 784), Reshape(28, 27, 1), Sigmoid()))
    with pytest.raises(ValueError, match="decoder does not end in pixels"):
        Network((28, 28, 1), 2, (Flatten(), Linear(784, 4)), ())


def test_absurd_sizes_fail_before_memory_is_asked_for() -> None:
    with pytest.raises(ValueError, match="more than"):
        networks.mlp((28, 28, 1), 2, [2**30, 2**30], variational=True)


@pytest.mark.parametrize("picture", [(28, 28, 1), (64, 48, 3), (1, 40, 1), (7, 5, 3), (256, 256, 3)])
def test_convolutions_halve_and_double_pictures_of_any_size(picture: tuple[int, ...]) -> None:
    network = models.network("conv", picture, 6, None, variational=True)
    assert network.variational
    shapes = layers.walk(network.encoder, picture)
    smallest = [shape for shape in shapes if len(shape) == 3][-1]
    assert min(smallest[:2]) <= 8
    assert layers.walk(network.decoder, (6,))[-1] == picture


def test_a_unet_has_no_latent_and_runs_on_any_multiple_of_its_grain() -> None:
    network = networks.unet((64, 64, 3), [8, 12, 16])
    assert network.latent == 0 and network.encoder == () and not network.variational and network.linear
    assert layers.walk(network.decoder, (88, 128, 3))[-1] == (88, 128, 3)


def test_what_is_kept_must_be_used_and_fit() -> None:
    with pytest.raises(ValueError, match="never used"):
        layers.walk([Keep()], (4, 4, 1))
    with pytest.raises(ValueError, match="was kept to be added"):
        layers.walk([Keep(), Conv(1, 2, 3, 1), Add()], (4, 4, 1))
    with pytest.raises(ValueError, match="was kept to be added"):
        layers.walk([Add()], (4, 4, 1))


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        (Conv(3, 4, 3, 1), (4, 4, 1)),
        (Conv(1, 4, 4, 1), (4, 4, 1)),
        (Conv(1, 4, 3, 1), (16,)),
        (Upsample(2), (16,)),
        (Upsample(2**20), (2**8, 2**8, 1)),
        (Crop(5, 4), (4, 4, 1)),
        (Fold(3), (4, 6, 1)),
        (Unfold(2), (4, 4, 3)),
    ],
)
def test_rows_refuse_what_does_not_fit_them(row: Row, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"come|holds|fold|larger"):
        layers.walk([row], shape)


def test_multiplications_are_counted_place_by_place() -> None:
    rows = [Conv(1, 4, 3, 2), Silu(), Flatten(), Linear(4 * 5 * 4, 7)]
    assert layers.multiplications(rows, (8, 9, 1)) == 4 * 5 * 4 * 9 + 80 * 7


@pytest.mark.parametrize(
    ("picture", "kind"), [((28, 28, 1), "mlp"), ((32, 32, 1), "mlp"), ((28, 28, 3), "conv"), ((33, 8, 1), "conv")]
)
def test_the_kind_of_network_follows_the_pictures(picture: tuple[int, ...], kind: str) -> None:
    assert models.kind_of_network(picture) == kind
    assert models.usual_likelihood(kind, picture) == ("bernoulli" if kind == "mlp" else "gaussian")
