"""vaectl sample."""

from typing import Annotated, Literal

import typer

from vaectl.commands import options
from vaectl.commands.options import option

PRIOR = option("--prior", help="The prior: learned from the latents, or normal, N(0, I) (default: learned if there is one).")
TEMPERATURE = typer.Option("--temperature", min=0, metavar="T", help="Below 1, samples are more typical and less diverse.")
LABEL = option("--label", metavar="NAME", help="Draw images of one label of the training data, such as 7 for MNIST.")


def sample(
    *,
    count: Annotated[int, typer.Option("-n", "--count", min=1, metavar="N", help="Number of samples.")] = 64,
    prior: Annotated[Literal["learned", "normal"] | None, PRIOR] = None,
    temperature: Annotated[float, TEMPERATURE] = 1,
    label: Annotated[str | None, LABEL] = None,
    seed: options.Seed = 0,
    model_options: options.ModelOptions,
    output: options.Output = None,
    format: options.AnyFormat = None,
    layout: options.LayoutOptions,
    quiet: options.Quiet = False,
) -> None:
    """Samples the prior: a mixture of Gaussians that training fitted to the latents, or N(0, I). A pipe or an .npy gets latents;
    an image gets decoded images.

    \b
      vaectl sample -n 64 --seed 1 | vaectl decode -o sheet.png
      vaectl sample -n 25 --temperature 0.8 -o digits.png
    """
    from vaectl.io.outputs import ALL_FORMATS, parse_destination, write_either
    from vaectl.io.records import Batch

    destination = parse_destination(output, format, ALL_FORMATS, animate=layout.animate)
    model = model_options.load()
    drawn = model.sample_latents(count, seed=seed, prior=prior, temperature=temperature, label=label)
    latents = Batch([f"sample-{index:05d}" for index in range(count)], drawn)
    write_either([latents], destination, model.decode, layout.make_layout())
