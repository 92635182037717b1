"""A server process that has done vaectl's imports and forks itself for each call, so that tests do not wait for imports.

It listens at a socket that it inherits. A request is a line of JSON and the three standard streams. There are two replies: the
process id; and the exit code, the seconds of CPU time and the most kilobytes of memory that the call had. The calls over one
connection run one after another, those over several at once.
"""

import json
import os
import resource
import select
import signal
import socket
import sys
from contextlib import suppress
from typing import Any


def main() -> None:
    """Serve until stdin closes."""
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401 - what curves imports

    import vaectl.cli
    import vaectl.datasets.named
    import vaectl.images.corruption
    import vaectl.io.outputs
    import vaectl.models.autoencoder
    import vaectl.models.checkpoint
    import vaectl.models.latents

    for command in vaectl.cli.COMMANDS:
        vaectl.cli.load_command(command)
    if "torch" in sys.argv:
        import torch.utils.tensorboard  # noqa: F401 - what --log imports

        import vaectl.evaluation.evaluate
        import vaectl.training.run
    # In the background of a shell script it is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    listener = socket.socket(fileno=int(sys.argv[-1]))
    while listener in select.select([listener, sys.stdin], [], [])[0]:
        connection, _ = listener.accept()
        if not os.fork():
            listener.close()
            serve(connection)
            os._exit(0)
        connection.close()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def serve(connection: socket.socket) -> None:
    """Run the calls that arrive over a connection, until the other end closes."""
    while True:
        data, streams, _, _ = socket.recv_fds(connection, 1 << 20, 3)
        if not data:
            return
        process = os.fork()
        if not process:
            connection.close()
            run(json.loads(data), streams)
        for stream in streams:
            os.close(stream)
        connection.sendall(f"{process}\n".encode())
        _, status, usage = os.wait4(process, 0)
        cpu_seconds = usage.ru_utime + usage.ru_stime
        connection.sendall(f"{os.waitstatus_to_exitcode(status)} {cpu_seconds} {usage.ru_maxrss}\n".encode())


def run(request: dict[str, Any], streams: list[int]) -> None:
    """Run one call of vaectl in this process, and end it."""
    from vaectl import cli

    code: object = 70
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["environment"])
        if request["memory"]:
            with open("/proc/self/statm") as memory:
                pages = int(memory.read().split()[0])
            limit = pages * resource.getpagesize() + request["memory"]
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        if request["cpu_seconds"]:
            resource.setrlimit(resource.RLIMIT_CPU, (request["cpu_seconds"],) * 2)
        sys.argv = ["vaectl", *request["arguments"]]
        cli.main()
    except SystemExit as leave:
        code = leave.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code if isinstance(code, int) else 0)


main()
