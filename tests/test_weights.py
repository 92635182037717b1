import numpy as np
import torch

from vaectl import networks
from vaectl.engines.torch import module
from vaectl.weights import Weights, initialise


def test_before_it_has_learned_a_network_draws_the_mean_picture() -> None:
    brightest = np.linspace(20, 255, 64).reshape(8, 8, 1)
    pictures = (np.random.default_rng(0).random((50, 8, 8, 1)) * brightest).astype(np.uint8)
    network = networks.mlp((8, 8, 1), 2, [32], variational=False)
    encoder, decoder = module(network.encoder), module(network.decoder)
    initialise(network, encoder, decoder, pictures, torch.Generator().manual_seed(0))
    with torch.no_grad():
        drawn = decoder(encoder(torch.from_numpy(pictures) / 255)).mean(0).numpy()
    np.testing.assert_allclose(drawn, pictures.mean(0) / 255, atol=0.05)


def test_the_weights_move_as_torch_s_adam_moves_them() -> None:
    ours, theirs = torch.nn.Linear(5, 3), torch.nn.Linear(5, 3)
    theirs.load_state_dict(ours.state_dict())
    weights = Weights(ours, torch.float32, (0.9, 0.95))
    adam = torch.optim.Adam(theirs.parameters(), lr=0.01, betas=(0.9, 0.95))
    for _ in range(5):
        batch = torch.randn(7, 5)
        ours(batch).square().sum().backward()
        weights.step(0.01)
        theirs(batch).square().sum().backward()
        adam.step()
        adam.zero_grad()
    weights.restore()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)
