"""A kernel or a file system without `RENAME_EXCHANGE`, for real.

A seccomp filter makes the kernel answer the system call with an error, as old kernels (ENOSYS) and file systems such as
NFS (EINVAL) do. It holds for the process that asks for it, and for those that it starts.
"""

import ctypes
import errno
import os
import struct
import tempfile
from pathlib import Path

# Of the system call renameat2, by the kind of machine.
_NUMBERS = {"x86_64": 316, "aarch64": 276}
IS_KNOWN = os.uname().machine in _NUMBERS and os.uname().sysname == "Linux"


def deny_exchange(answer: str) -> None:
    """Lets every exchange from now on fail.

    Args:
        answer: The name of the error.
    """

    def instruction(code: int, true: int, false: int, value: int) -> bytes:
        return struct.pack("<HBBI", code, true, false, value)

    program = b"".join(
        [
            instruction(0x20, 0, 0, 0),  # load the number of the system call
            instruction(0x15, 0, 3, _NUMBERS[os.uname().machine]),  # another call: allow
            instruction(0x20, 0, 0, 16 + 4 * 8),  # load its flags
            instruction(0x15, 0, 1, 2),  # no RENAME_EXCHANGE: allow
            instruction(0x06, 0, 0, 0x00050000 | getattr(errno, answer)),
            instruction(0x06, 0, 0, 0x7FFF0000),
        ]
    )
    content = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(program) // 8, ctypes.addressof(content)))
    library = ctypes.CDLL(None, use_errno=True)
    assert library.prctl(38, 1, 0, 0, 0) == 0, "PR_SET_NO_NEW_PRIVS"
    assert library.prctl(22, 2, header) == 0, "PR_SET_SECCOMP"
    with tempfile.TemporaryDirectory() as probe:
        one, two = Path(probe, "one"), Path(probe, "two")
        one.mkdir()
        two.mkdir()
        assert library.renameat2(-100, os.fsencode(one), -100, os.fsencode(two), 2) == -1, "the filter does not work"
