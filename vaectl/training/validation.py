"""How good a network is on held-out images, after each epoch and at the end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod

from vaectl.base.arrays import Array, UInt8Array
from vaectl.images.corruption import Corruption
from vaectl.models.mixture import Mixture
from vaectl.models.network import Network
from vaectl.training.distributed import World
from vaectl.training.losses import Likelihood, calibrate, make_likelihood, neg_elbo
from vaectl.training.metrics import EvalConfig, Evaluator, Metrics, image_metrics
from vaectl.training.settings import TrainConfig

VALIDATED = ("loss", "neg_elbo", "psnr", "psnr_before")  # the held-out metrics of each epoch
N_VALIDATION_VALUES = 1 << 21  # pixel values of them: some 2,700 digits, or 170 crops


@dataclass(frozen=True)
class Validation:
    """Measures weights on `images` (N, H, W, C), or pairs, 0 to 255; `held_out` is whether the network does not learn from them.

    Each process of `world` computes the metrics of its part of the images.
    """

    network: Network
    images: UInt8Array
    held_out: bool
    config: TrainConfig
    corruptions: Sequence[Corruption]
    device: str
    world: World

    def evaluator(
        self, weights: Mapping[str, Array], likelihood: Likelihood, *, samples: int = 0, prior: Mixture | None = None
    ) -> Evaluator:
        """An evaluator of these weights, with corruptions as in training."""
        eval_config = EvalConfig(self.corruptions, samples, self.config.binarize, seed=self.config.seed)
        return Evaluator(self.network, weights, likelihood, self.device, eval_config, prior)

    def measure(self, evaluator: Evaluator, images: UInt8Array) -> Metrics:
        """The metrics of every image, (N,) each."""
        parts = image_metrics(evaluator, self.world.shard(images))
        return {name: self.world.unshard(values) for name, values in parts.items()}

    def calibrate(self, weights: Mapping[str, Array], likelihood: Likelihood, images: UInt8Array) -> Likelihood:
        """With the sigma of held-out images if it is learned: that of memorized images is too small."""
        if self.config.sigma or likelihood.sigma is None or not self.held_out:
            return likelihood
        nll = float(self.measure(self.evaluator(weights, likelihood), images)["reconstruction"].mean())
        sigma = calibrate(likelihood.sigma, nll, prod(self.network.image_shape))
        return make_likelihood("gaussian", sigma, self.network.outputs_pixels)

    def validate(self, weights: Mapping[str, Array], likelihood: Likelihood) -> Metrics:
        """The held-out metrics of an epoch, (N,) each; empty if no images are held out."""
        if not self.held_out:
            return {}
        images = self.images[:: ceil(self.images.size / N_VALIDATION_VALUES)]
        iwae = self.config.objective == "iwae"
        likelihood = self.calibrate(weights, likelihood, images)
        metrics = self.measure(self.evaluator(weights, likelihood, samples=self.config.samples if iwae else 0), images)
        metrics["loss"] = metrics["nll"] if iwae else neg_elbo(metrics["reconstruction"], metrics["kl"], self.config.beta)
        return {name: metrics[name] for name in VALIDATED if name in metrics}
