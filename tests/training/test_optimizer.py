import numpy as np
import pytest
import torch

from vaectl.models.network import build_conv, build_mlp, build_unet
from vaectl.models.torch_engine import build_module
from vaectl.training.optimizer import Optimizer, init_weights


def test_an_untrained_network_reconstructs_the_mean_image() -> None:
    brightest = np.linspace(20, 255, 64).reshape(8, 8, 1)
    images = (np.random.default_rng(0).random((50, 8, 8, 1)) * brightest).astype(np.uint8)
    network = build_mlp((8, 8, 1), 2, [32], variational=False)
    encoder, decoder = build_module(network.encoder), build_module(network.decoder)
    init_weights(network, encoder, decoder, images, torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = decoder(encoder(torch.from_numpy(images) / 255)).mean(0).numpy()
    np.testing.assert_allclose(found, images.mean(0) / 255, atol=0.05)


def test_an_untrained_decoder_draws_no_checkerboard() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
    network = build_conv((16, 16, 3), 4, [8, 16], variational=True)
    encoder, decoder = build_module(network.encoder), build_module(network.decoder)
    init_weights(network, encoder, decoder, images, torch.Generator().manual_seed(0))
    with torch.no_grad():
        drawn = decoder(torch.randn(5, 4))
    blocks = drawn.unflatten(1, (8, 2)).unflatten(3, (8, 2))  # (N, 8, 2, 8, 2, C)
    torch.testing.assert_close(blocks, blocks[:, :, :1, :, :1].expand_as(blocks))
    assert drawn.std((1, 2)).min() > 1e-4


def test_adam_updates_weights_as_torch_does() -> None:
    ours, theirs = torch.nn.Linear(5, 3), torch.nn.Linear(5, 3)
    theirs.load_state_dict(ours.state_dict())
    optimizer = Optimizer(ours, torch.float32, (0.9, 0.95))
    expected = torch.optim.Adam(theirs.parameters(), lr=0.01, betas=(0.9, 0.95))
    for _ in range(5):
        batch = torch.randn(7, 5)
        ours(batch).square().sum().backward()
        optimizer.step(0.01)
        theirs(batch).square().sum().backward()
        expected.step()
        expected.zero_grad()
    optimizer.bind(optimizer.weights)
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


def test_adam_in_bfloat16_keeps_float32_weights() -> None:
    module = torch.nn.Linear(5, 3)
    optimizer = Optimizer(module, torch.bfloat16, (0.9, 0.95))
    assert module.weight.dtype == torch.bfloat16
    module(torch.randn(7, 5, dtype=torch.bfloat16)).square().sum().backward()
    optimizer.step(0.01)
    torch.testing.assert_close(optimizer.working, optimizer.weights.bfloat16())
    optimizer.bind(optimizer.weights)
    assert module.weight.dtype == torch.float32


def test_a_state_of_another_number_of_weights_is_refused() -> None:
    small, large = (Optimizer(torch.nn.Linear(2, size), torch.float32, (0.9, 0.95)) for size in (1, 2))
    with pytest.raises(ValueError, match="3 weights, not 6"):
        large.load_state_dict(small.state_dict(), 1)


def test_an_untrained_unet_returns_almost_its_input() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
    network = build_unet((16, 16, 3), [8, 16])
    encoder, decoder = build_module(network.encoder), build_module(network.decoder)
    init_weights(network, encoder, decoder, images, torch.Generator().manual_seed(0))
    x = torch.from_numpy(images) / 255
    with torch.no_grad():
        assert (decoder(x) - x).abs().mean() < 0.3


def test_muon_steps_alike_in_all_directions_of_inner_kernels_and_adam_updates_the_rest() -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(*(torch.nn.Conv2d(channels, 8, 3) for channels in (3, 8, 8)))
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    optimizer = Optimizer(module, torch.float32, (0.9, 0.95))
    assert list(optimizer.named_weights()) == list(before)
    module(torch.randn(5, 3, 9, 9)).square().sum().backward()
    optimizer.step(0.1)
    steps = {name: weight - before[name] for name, weight in optimizer.named_weights().items()}
    singular = torch.linalg.svdvals(steps["1.weight"].flatten(1))
    assert singular.max() < 2 * singular.min()
    assert steps["1.weight"].square().mean().sqrt() == pytest.approx(0.2 * 0.1, rel=0.2)
    for name in ("0.weight", "1.bias", "2.weight"):  # Adam's first step is the learning rate for every weight
        torch.testing.assert_close(steps[name].abs(), torch.full_like(steps[name], 0.1), rtol=1e-3, atol=0)


def test_muon_resumes_to_the_same_bits() -> None:
    def train(module: torch.nn.Module, optimizer: Optimizer, steps: int) -> None:
        random = torch.Generator().manual_seed(steps)
        for _ in range(steps):
            module(torch.randn(2, 3, 9, 9, generator=random)).square().sum().backward()
            optimizer.step(0.01)

    def make() -> tuple[torch.nn.Module, Optimizer]:
        torch.manual_seed(0)
        module = torch.nn.Sequential(*(torch.nn.Conv2d(channels, 8, 3) for channels in (3, 8, 8)))
        return module, Optimizer(module, torch.float32, (0.9, 0.95))

    module, optimizer = make()
    train(module, optimizer, 3)
    resumed, other = make()
    other.load_state_dict({name: tensor.clone() for name, tensor in optimizer.state_dict().items()}, 3)
    for pair in ((module, optimizer), (resumed, other)):
        train(*pair, 2)
    assert torch.equal(optimizer.weights, other.weights)
