"""A process from which calls of vaectl are forked, so that a test waits for the call alone and not for its imports.

It is asked over a socket: a line of JSON and the three standard streams; it answers with the call's process and its exit code.
"""

import json
import os
import resource
import signal
import socket
import sys
from typing import Any


def main() -> None:
    """Serve until the other end closes."""
    import vaectl.autoencoder
    import vaectl.checkpoint
    import vaectl.cli
    import vaectl.corruption
    import vaectl.io.sinks
    import vaectl.latents

    for verb in vaectl.cli.VERBS:
        vaectl.cli.load(verb)
    if "torch" in sys.argv:
        import vaectl.datasets
        import vaectl.evaluation
        import vaectl.training
    # In the background of a shell script it is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    asked = socket.socket(fileno=0)
    while True:
        data, streams, _, _ = socket.recv_fds(asked, 1 << 20, 3)
        if not data:
            return
        process = os.fork()
        if not process:
            asked.close()
            call(json.loads(data), streams)
        for stream in streams:
            os.close(stream)
        asked.sendall(f"{process}\n".encode())
        _, status = os.waitpid(process, 0)
        asked.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def call(asked: dict[str, Any], streams: list[int]) -> None:
    """Be vaectl."""
    from vaectl import cli

    code: object = 70
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(asked["cwd"])
        os.environ.clear()
        os.environ.update(asked["environment"])
        if asked["memory"]:
            with open("/proc/self/statm") as memory:
                pages = int(memory.read().split()[0])
            limit = pages * resource.getpagesize() + asked["memory"]
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        sys.argv = ["vaectl", *asked["arguments"]]
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
