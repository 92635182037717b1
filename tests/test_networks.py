import pytest

from vaectl import layers, networks
from vaectl.layers import Flatten, Linear, Reshape, Sigmoid
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
