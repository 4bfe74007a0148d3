"""A pool against a fresh allocation of 8 MiB, as a frame of a camera. On the system heap."""

from __future__ import annotations

from core import MIB, compare

import dmabuf

SIZE = 8 * MIB
AIM = 80  # times faster


def main() -> None:
    with dmabuf.Heap("system") as heap, dmabuf.Pool(2, SIZE, allocate=heap.allocate) as pool:

        def fresh() -> None:
            heap.allocate(SIZE).close()

        def fresh_and_mapped() -> None:
            with heap.allocate(SIZE) as buffer:
                buffer.memory.release()

        def recycled() -> None:
            pool.acquire().close()

        def recycled_and_mapped() -> None:
            with pool.acquire() as buffer:
                buffer.memory.release()

        ways = (fresh, recycled, fresh_and_mapped, recycled_and_mapped)
        best = compare({way.__name__: way for way in ways}, 10)
    for name, nanoseconds in best.items():
        print(f"{name:20} {nanoseconds / 1000:10.1f} us")
    for suffix in ("", "_and_mapped"):
        ratio = best["fresh" + suffix] / best["recycled" + suffix]
        print(f"recycled{suffix} is {ratio:.0f} times faster; the aim is {AIM}")


if __name__ == "__main__":
    main()
