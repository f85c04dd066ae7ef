"""Starts torch.distributed.run as it would be from the shell. On Python 3.11 PyTorch 1.13's Std.from_str returns None; it is mended here."""

import sys

from torch.distributed.elastic.multiprocessing import api

if sys.version_info >= (3, 11) and api.Std.from_str("0") is None:
    api.Std.from_str = classmethod(lambda cls, text: cls.NONE)

from torch.distributed.run import main  # noqa: E402 - after the mending.

if __name__ == "__main__":
    main(sys.argv[1:])
