#!/usr/bin/env python3
"""usage: make_tree.py OUT MIB

Writes a tree like a cluster image's rootfs, the same bytes every time for the same files under /usr: 45 % programs and
libraries of this machine, 30 % incompressible blobs up to 64 MiB, 25 % text in thousands of small files and some large ones.
"""
import os
import random
import sys

MTIME = 1700000000
random_ = random.Random(1)


def write(out, name, data, mode=0o644):
    path = os.path.join(out, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, mode)
    os.utime(path, (MTIME, MTIME))
    return len(data)


def programs():
    """Yields ELF files of at least 64 KiB, sorted."""
    for root in ("/usr/bin", "/usr/sbin", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib/gcc"):
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                if os.path.islink(path) or not os.path.isfile(path) or not 65536 <= os.path.getsize(path) <= 64 << 20:
                    continue
                with open(path, "rb") as file:
                    data = file.read()
                if data[:4] == b"\x7fELF":
                    yield name, data


def text(words, size):
    lines, length = [], 0
    while length < size:
        line = "  " * random_.randint(0, 3) + " ".join(random_.choices(words, k=random_.randint(3, 14))) + f": {random_.randint(0, 99999)}\n"
        lines.append(line)
        length += len(line)
    return "".join(lines).encode()[:size]


def main(out, mib):
    if os.path.exists(out):
        sys.exit(f"{out} exists")
    total = mib << 20
    found = list(programs())
    written, turn = 0, 0
    while written < total * 0.45:
        name, data = found[turn % len(found)]
        shift = len(data) * (turn // len(found)) // 7 % len(data)       # a later round is no literal copy
        written += write(out, f"bin/{turn // 200:02d}/{turn}-{name}", data[shift:] + data[:shift] + str(turn).encode(), 0o755)
        turn += 1
    written, turn = 0, 0
    while written < total * 0.30:
        data = random_.randbytes(min(64 << 20, int(random_.lognormvariate(15.2, 1.6)) + 4096))
        written += write(out, f"blobs/{turn % 16:x}/{turn}", data)
        turn += 1
    words = ["".join(random_.choices("etaoinshrdlucmfwyp", k=random_.randint(2, 11))) for _ in range(4000)]
    written, turn = 0, 0
    while written < total * 0.25:
        small = written < total * 0.10
        size = min(24576, int(random_.lognormvariate(8.4, 0.9)) + 200) if small else random_.randint(1 << 20, 4 << 20)
        written += write(out, f"etc/{turn % 97:02d}/{turn}.yaml" if small else f"docs/{turn}.txt", text(words, size))
        turn += 1
    for number in range(50):
        os.symlink(f"00/{number}", f"{out}/bin/link-{number}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], int(sys.argv[2]))
