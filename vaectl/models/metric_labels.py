"""The labels and units of metrics."""

from collections.abc import Iterable, Mapping, Sequence

METRICS = {
    "loss": ("loss", "nats"),
    "neg_elbo": ("-ELBO", "nats"),
    "reconstruction": ("-log p(x|z)", "nats"),
    "kl": ("KL", "nats"),
    "nll": ("NLL", "nats"),
    "neg_elbo_learned": ("-ELBO, learned prior", "nats"),
    "nll_learned": ("NLL, learned prior", "nats"),
    "mse": ("MSE", ""),
    "psnr": ("PSNR", "dB"),
    "ssim": ("SSIM", ""),
}
HELD_OUT = "held_out_"  # begins the names of metrics of held-out images
BEFORE = "_before"  # ends the names of metrics of corrupted images
ORDER = [*METRICS, *(HELD_OUT + name for name in METRICS)]


def label_metric(name: str) -> str:
    """The label of a metric, with its unit: "held-out PSNR (dB)"; an unknown metric keeps its name."""
    label, unit = METRICS.get(name.removeprefix(HELD_OUT), (name, ""))
    held_out = "held-out " if name in ORDER and name.startswith(HELD_OUT) else ""
    return f"{held_out}{label}" + (f" ({unit})" if unit else "")


def sort_metrics(names: Iterable[str]) -> list[str]:
    """The names without duplicates, known ones first and in order."""
    found = dict.fromkeys(names)
    return [*(name for name in ORDER if name in found), *(name for name in found if name not in ORDER)]


def format_epoch(number: int, epoch: Mapping[str, float], metrics: Sequence[str]) -> list[str]:
    """The fields of an epoch in a table: its number and these metrics, empty where it has none."""
    return [str(number), *(str(epoch.get(metric, "")) for metric in metrics)]
