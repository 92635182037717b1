"""A network learns from tar files while they are read, and stores only a sample of them."""

import signal
import tarfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support import ForkServer, Result, one_line
from torch import Generator
from vaectl.training.streaming import StreamedImages, count_epoch, shuffle

import vaectl
from vaectl.datasets import folders
from vaectl.datasets.load import store_dataset
from vaectl.io.sources import SkipPolicy
from vaectl.io.tars import Shards
from vaectl.models import checkpoint
from vaectl.training import streaming
from vaectl.training.distributed import World

Call = Callable[..., Result]

N_FILES, IMAGES_PER_FILE = 4, 250


@pytest.fixture
def server(fork_server: Callable[..., ForkServer]) -> ForkServer:
    return fork_server("train")


@pytest.fixture
def data(make_once: Callable[..., Path], digits: NDArray[np.uint8]) -> str:
    """Four tar files of 250 digits each."""

    def fill(folder: Path) -> None:
        for number in range(N_FILES):
            with tarfile.open(folder / f"{number}.tar", "w") as archive:
                for index in range(IMAGES_PER_FILE):
                    stream = BytesIO()
                    pixels = digits[(number * IMAGES_PER_FILE + index) % len(digits), ..., 0].copy()
                    pixels[0, 0], pixels[0, 1] = number, index  # tells which it is
                    Image.fromarray(pixels).save(stream, "PNG")
                    member = tarfile.TarInfo(f"{index:04d}.png")
                    member.size = len(stream.getvalue())
                    stream.seek(0)
                    archive.addfile(member, stream)

    return str(make_once("tar files of digits", fill) / "{0..3}.tar")


@pytest.fixture
def streamed(data: str) -> StreamedImages:
    sample = store_dataset(data, stream=True).open().train
    return StreamedImages(Shards(data), sample, "crop", SkipPolicy(), len(sample))


def names(batches: Iterator[object]) -> list[tuple[int, int]]:
    """Which images are in batches: the number of the file, and that in it."""
    return [(int(image[0, 0, 0]), int(image[0, 1, 0])) for batch in batches for image in np.asarray(batch)]


def test_an_epoch_has_each_training_image_once_in_random_order(streamed: StreamedImages) -> None:
    sample = {(int(image[0, 0, 0]), int(image[0, 1, 0])) for image in streamed.sample}
    assert 850 < len(sample) < 950  # the others are held out
    length = len(sample) // 10 * 10
    streamed = StreamedImages(streamed.shards, streamed.sample, "crop", SkipPolicy(), length)
    random = Generator().manual_seed(0)
    first, second = (names(streamed.batches(10, random)) for _ in range(2))
    for epoch in (first, second):
        assert len(epoch) == len(set(epoch)) == length and set(epoch) <= sample
    assert first != second and first != sorted(first)
    assert first == names(streamed.batches(10, Generator().manual_seed(0)))


def test_each_process_reads_files_of_its_own(streamed: StreamedImages) -> None:
    shares = [names(streamed.batches(10, Generator().manual_seed(0), World(rank, 2))) for rank in range(2)]
    assert len(shares[0]) == len(shares[1]) == len(streamed) // 10 * 5
    files = [{number for number, _ in share} for share in shares]
    assert len(files[0]) == len(files[1]) == 2 and not files[0] & files[1]


def test_an_epoch_of_more_images_than_there_are_reads_files_again(streamed: StreamedImages) -> None:
    longer = StreamedImages(streamed.shards.select([2]), streamed.sample, "crop", SkipPolicy(), 600)
    found = names(longer.batches(100, Generator().manual_seed(0)))
    assert len(found) == 600 and {number for number, _ in found} == {2}
    assert 200 < len(set(found)) <= IMAGES_PER_FILE


def test_a_buffer_mixes_images_that_lie_as_far_apart_as_it_is_long() -> None:
    images = [np.full((1, 1, 1), index, np.uint8) for index in range(100)]
    for size in (1, 20, 1000):
        order = [int(image[0, 0, 0]) for image in shuffle(iter(images), size, np.random.default_rng(0))]
        assert sorted(order) == [*range(100)]
        assert (order == sorted(order)) == (size == 1)
        assert all(index < place + size for place, index in enumerate(order))


def test_an_epoch_is_limited_where_there_are_many_images(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = store_dataset(data, stream=True)
    elsewhere = Shards("https://example.org/{0..63}.tar")
    assert count_epoch(Shards(data), sample) == len(sample.train.images)
    assert count_epoch(elsewhere, sample) == 2 * len(sample.train.images)  # every second file was read
    monkeypatch.setattr(streaming, "N_SAMPLED", 1000)  # the sample is full
    assert count_epoch(Shards(data), sample) == 900
    assert count_epoch(elsewhere, sample) == streaming.IMAGES_PER_EPOCH
    monkeypatch.setattr(streaming, "IMAGES_PER_EPOCH", 300)
    assert count_epoch(Shards(data), sample) == 300


def test_only_a_sample_of_all_files_is_stored(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "N_SAMPLED", 40)
    monkeypatch.setattr(folders, "N_SAMPLED_FILES", 2)
    dataset = store_dataset(data, stream=True).open()
    images = [*dataset.train, *dataset.test]
    assert len(images) == 40 and {int(image[0, 0, 0]) for image in images} == {0, 2}


def test_a_stream_teaches_as_much_as_stored_images(data: str, run: Call, tmp_path: Path) -> None:
    command = ["train", "vae", "--data", data, "--hidden", "64", "--latent", "4", "--epochs", "20", "--shift", "0"]
    run(*command, "--stream", "-o", "streamed.safetensors")
    run(*command, "-o", "stored.safetensors")
    streamed, stored = (checkpoint.load(str(tmp_path / f"{name}.safetensors")).card for name in ("streamed", "stored"))
    assert streamed.data["streamed"] is True and "streamed" not in stored.data
    assert streamed.metrics["neg_elbo"] == pytest.approx(stored.metrics["neg_elbo"], rel=0.05)


def test_a_streamed_model_is_evaluated_and_shown_on_its_sample(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "N_SAMPLED", 200)
    model = vaectl.train("vae", data, stream=True, hidden=[8], epochs=1)
    held_out = model.card.metrics["images"]
    assert 5 < held_out < 40
    assert vaectl.evaluate(model, samples=0).images == held_out
    assert "the images of {0..3}.tar" in vaectl.explore(model).decode()


def test_an_interrupted_stream_resumes_to_the_same_bits(data: str, server: ForkServer, run: Call, tmp_path: Path) -> None:
    command = ["train", "vae", "--data", data, "--stream", "--hidden", "64", "--epochs", "6", "--batch-size", "32"]
    run(*command, "-o", "whole.safetensors")
    with server.start(command, tmp_path) as training:
        training.read_until("epoch 2/")
        training.send_signal(signal.SIGTERM)
        code, _, err = training.finish()
    assert code == -signal.SIGTERM and b"stopped after " in err
    run(*command, "--resume")
    assert (tmp_path / "vae.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_what_cannot_be_streamed_is_refused(data: str, run: Call, small_data: Path) -> None:
    advice = "only tar files are streamed: use --stream with --data 'shards/{0000..0127}.tar'"
    for other in ("mnist", str(small_data)):
        one_line(run("train", "vae", "--data", other, "--stream", code=2), advice)
    one_line(run("train", "dae", "--data", data, "--stream", "--net", "unet", code=2), "leave out --stream")
    one_line(run("train", "vae", "--data", "none-{0..3}.tar", "--stream", code=1), "'none-0.tar': no such file")


def test_a_file_that_ends_early_is_told_or_skipped(data: str, run: Call, tmp_path: Path) -> None:
    for number in range(2):
        whole = Path(data.replace("{0..3}", str(number))).read_bytes()
        (tmp_path / f"{number}.tar").write_bytes(whole[: len(whole) // (1 + number)])
    command = ["train", "vae", "--data", "{0..1}.tar", "--stream", "--hidden", "8", "--epochs", "1"]
    one_line(run(*command, code=1), "'1.tar' ends early", "--skip-bad")
    result = run(*command, "--skip-bad", "--epochs", "5")
    assert result.stderr.count(b"'1.tar' ends early: what follows in it is skipped") == 2  # of the sample, and of all
