"""Writes a network as an ONNX file from its list of layers, without tracing and without torch.

Images enter and leave a graph as (batch, height, width, channels), as everywhere in vaectl, in image files and in canvases, so
the exported encoder takes what `Autoencoder.encode` takes. ONNX convolves images with channels first, so they are transposed
before the first convolution and after the last.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vaectl import __version__
from vaectl.base.arrays import Array
from vaectl.base.errors import UsageError, VaectlError
from vaectl.base.extras import importing
from vaectl.base.shapes import Shape
from vaectl.models.layers import Conv2d, Crop, Layer, Unflatten, layer_shapes
from vaectl.models.network import Network
from vaectl.models.tiling import required_multiple

with importing("onnx"):
    from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

PARTS = ("autoencoder", "encoder", "decoder")
# The oldest versions with all these operators (2021), so that most runtimes read the files.
OPSET, IR_VERSION = 15, 8
MAX_WEIGHT_BYTES = 2_000_000_000  # a file has at most 2 ** 31 bytes, some of them for the graph
LAYOUT = "Images are (batch, height, width, channels), with pixels in [0, 1]."


class Graph:
    """A graph under construction. Tensors are names; those in `channels_first` are images with channels first."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.inputs: list[ValueInfoProto] = []
        self.outputs: list[ValueInfoProto] = []
        self.channels_first: set[str] = set()
        self.skips: list[str] = []

    def add(self, operator: str, *inputs: str | ArrayLike, **attributes: Any) -> str:
        """Add a node and return its output, which has the layout of its first input. Numbers become constants."""
        names = [value if isinstance(value, str) else self.add_constant(value) for value in inputs]
        output = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, names, [output], output, **attributes))
        if names[0] in self.channels_first:
            self.channels_first.add(output)
        return output

    def add_constant(self, values: ArrayLike) -> str:
        """Add a constant and return it."""
        self.constants.append(numpy_helper.from_array(np.asarray(values), f"constant_{len(self.constants)}"))
        return self.constants[-1].name

    def add_input(self, name: str, shape: Sequence[int | str]) -> str:
        """Add an input and return it; the batch is not part of the shape, and strings are dynamic sizes."""
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]))
        return name

    def add_output(self, name: str, shape: Sequence[int | str], x: str) -> None:
        """Make a tensor an output of this name; the shape is as for `add_input`."""
        self.nodes.append(helper.make_node("Identity", [x], [name], name))
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]))

    def to_channels_first(self, x: str) -> str:
        """The image with channels first, as ONNX convolves it."""
        if x not in self.channels_first:
            x = self.add("Transpose", x, perm=[0, 3, 1, 2])
            self.channels_first.add(x)
        return x

    def to_channels_last(self, x: str) -> str:
        """The image with channels last, as in vaectl; vectors stay as they are."""
        if x in self.channels_first:
            x = self.add("Transpose", x, perm=[0, 2, 3, 1])
            self.channels_first.remove(x)
        return x


def conv2d(graph: Graph, layer: Conv2d, name: str, x: str) -> str:
    """Convolve."""
    strides, pads = [layer.stride] * 2, [layer.kernel_size // 2] * 4
    return graph.add("Conv", graph.to_channels_first(x), f"{name}.weight", f"{name}.bias", strides=strides, pads=pads)


def crop(graph: Graph, layer: Crop, x: str) -> str:
    """Crop to the upper left corner."""
    return graph.add("Slice", graph.to_channels_first(x), [0, 0], [layer.height, layer.width], [2, 3])


def pixel_unshuffle(graph: Graph, x: str, channels: int, factor: int) -> str:
    """Move blocks of pixels into channels."""
    # SpaceToDepth orders by row, column and channel, so each channel temporarily becomes an image. A 0 keeps a size.
    single = graph.add("Reshape", graph.to_channels_first(x), [-1, 1, 0, 0])
    return graph.add("Reshape", graph.add("SpaceToDepth", single, blocksize=factor), [-1, channels * factor**2, 0, 0])


def pixel_shuffle(graph: Graph, x: str, factor: int) -> str:
    """Move channels into blocks of pixels."""
    return graph.add("DepthToSpace", graph.to_channels_first(x), blocksize=factor, mode="CRD")


def unflatten(graph: Graph, layer: Unflatten, x: str) -> str:
    """Reshape vectors to images."""
    return graph.add("Reshape", graph.to_channels_last(x), [0, layer.height, layer.width, layer.channels])


def gate(graph: Graph, x: str, channels: int) -> str:
    """Multiply the first half of the channels by the second."""
    x, half = graph.to_channels_first(x), channels // 2
    return graph.add("Mul", slice_channels(graph, x, 0, half), slice_channels(graph, x, half, channels))


def slice_channels(graph: Graph, x: str, start: int, end: int) -> str:
    """Some channels of images with channels first, or some dimensions of vectors."""
    return graph.add("Slice", x, [start], [end], [1])


def push_skip(graph: Graph, x: str) -> str:
    """Push the input onto the skip stack and return it."""
    graph.skips.append(x)
    return x


def add_skip(graph: Graph, x: str) -> str:
    """Pop the skip stack and add the result to the input."""
    skip = graph.skips.pop()
    return graph.add("Add", graph.to_channels_first(x) if skip in graph.channels_first else graph.to_channels_last(x), skip)


# Each adds a layer to the graph, given the prefix of its weights, the shape of its input and the input, and returns its output.
OPERATIONS: dict[str, Callable[[Graph, Any, str, Shape, str], str]] = {
    "linear": lambda graph, layer, name, shape, x: graph.add("Gemm", x, f"{name}.weight", f"{name}.bias", transB=1),
    "conv2d": lambda graph, layer, name, shape, x: conv2d(graph, layer, name, x),
    "crop": lambda graph, layer, name, shape, x: crop(graph, layer, x),
    "pixel_unshuffle": lambda graph, layer, name, shape, x: pixel_unshuffle(graph, x, shape[2], layer.downscale_factor),
    "pixel_shuffle": lambda graph, layer, name, shape, x: pixel_shuffle(graph, x, layer.upscale_factor),
    "flatten": lambda graph, layer, name, shape, x: graph.add("Flatten", graph.to_channels_last(x)),
    "unflatten": lambda graph, layer, name, shape, x: unflatten(graph, layer, x),
    "silu": lambda graph, layer, name, shape, x: graph.add("Mul", x, graph.add("Sigmoid", x)),
    "relu": lambda graph, layer, name, shape, x: graph.add("Relu", x),
    "sigmoid": lambda graph, layer, name, shape, x: graph.add("Sigmoid", x),
    "clip": lambda graph, layer, name, shape, x: graph.add("Clip", x, np.float32(0), np.float32(1)),
    "gate": lambda graph, layer, name, shape, x: gate(graph, x, shape[2]),
    "push_skip": lambda graph, layer, name, shape, x: push_skip(graph, x),
    "add_skip": lambda graph, layer, name, shape, x: add_skip(graph, x),
}


def add_layers(graph: Graph, half: str, layers: Sequence[Layer], shape: Shape, x: str) -> str:
    """Add the layers of one half of a network, and return their output."""
    for index, (layer, layer_shape) in enumerate(zip(layers, layer_shapes(layers, shape)[:-1], strict=True)):
        x = OPERATIONS[layer.name](graph, layer, f"{half}.{index}", layer_shape, x)
    return graph.to_channels_last(x)


def add_encoder(graph: Graph, network: Network, image: str) -> dict[str, str]:
    """Add the encoder, and return its outputs by name: z, or mu and logvar of q(z|x)."""
    encoded, dims = add_layers(graph, "encoder", network.encoder, network.image_shape, image), network.latent_dim
    if not network.variational:
        return {"z": encoded}
    return {"mu": slice_channels(graph, encoded, 0, dims), "logvar": slice_channels(graph, encoded, dims, 2 * dims)}


def add_denoiser(graph: Graph, network: Network, image: str) -> str:
    """Add a network without a latent, for images of any size: they are padded and cropped, as `tiling.run_tiled` does."""
    padded, multiple = image, required_multiple(network.decoder)
    for axis in (1, 2):
        padded = reflect(graph, padded, axis, multiple)
    output = add_layers(graph, "decoder", network.decoder, network.image_shape, padded)
    return graph.add("Slice", output, [0, 0], graph.add("Shape", image, start=1, end=3), [1, 2])


def reflect(graph: Graph, x: str, axis: int, multiple: int) -> str:
    """Pad an axis to a multiple by reflection at its end, as `tiling.reflect` does."""
    size = graph.add("Gather", graph.add("Shape", x), axis)
    blocks = graph.add("Div", graph.add("Add", size, multiple - 1), multiple)
    indices = graph.add("Range", 0, graph.add("Mul", blocks, multiple), 1)
    period = graph.add("Add", size, size)
    forwards = graph.add("Mod", indices, period)
    backwards = graph.add("Sub", graph.add("Sub", period, 1), forwards)
    return graph.add("Gather", x, graph.add("Min", forwards, backwards), axis=axis)


def build_graph(network: Network, part: str) -> Graph:
    """The graph of a part of a network, without its weights."""
    graph, latent_shape = Graph(), (network.latent_dim,)
    if not network.has_latent:
        image_shape = ("height", "width", network.image_shape[2])
        graph.add_output("reconstruction", image_shape, add_denoiser(graph, network, graph.add_input("image", image_shape)))
        return graph
    if part == "decoder":
        z = graph.add_input("z", latent_shape)
    else:
        encoded = add_encoder(graph, network, graph.add_input("image", network.image_shape))
        for name, x in encoded.items():
            graph.add_output(name, latent_shape, x)
        z = next(iter(encoded.values()))
    if part != "encoder":
        decoded = add_layers(graph, "decoder", network.decoder, latent_shape, z)
        graph.add_output("image" if part == "decoder" else "reconstruction", network.image_shape, decoded)
    return graph


def encode_model(network: Network, weights: Mapping[str, Array], part: str, metadata: Mapping[str, str]) -> bytes:
    """A network, or one half of it, as the bytes of an ONNX file, for batches and, without a latent, images of any size.

    Args:
        part: "encoder", from `image` to `z`, or to `mu` and `logvar` of a variational one; "decoder", from `z` to `image`; or
            "autoencoder", from `image` to what the encoder outputs, and to the `reconstruction` of z or mu.

    Raises:
        UsageError: another part.
        VaectlError: a part that the network does not have, or more weights than one file can hold.
    """
    if part not in PARTS:
        raise UsageError(f"part={part!r}: choose one of {', '.join(PARTS)}")
    if part != "autoencoder" and not network.has_latent:
        raise VaectlError(f"this model, a unet, has no {part}", "export it whole, as an autoencoder")
    used = {name: weights[name] for name in network.weight_shapes() if part == "autoencoder" or name.startswith(f"{part}.")}
    if (size := sum(weight.nbytes for weight in used.values())) > MAX_WEIGHT_BYTES:
        what = f"the {part} has {size / 1e9:.1f} GB of weights, but an ONNX file holds {MAX_WEIGHT_BYTES / 1e9:g} GB"
        raise VaectlError(what, "export the encoder and the decoder" if part == "autoencoder" else "train a smaller network")
    graph = build_graph(network, part)
    constants = [*graph.constants, *(numpy_helper.from_array(weight, name) for name, weight in used.items())]
    model = helper.make_model(
        helper.make_graph(graph.nodes, part, graph.inputs, graph.outputs, constants, LAYOUT),
        producer_name="vaectl",
        producer_version=__version__,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    helper.set_model_props(model, dict(metadata))
    data: bytes = model.SerializeToString()
    return data
