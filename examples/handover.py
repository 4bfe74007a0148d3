"""Pass a buffer on before it is ready: two devices, one buffer, no polling.

A producer draws frames into a buffer; a consumer shows them. The consumer queues each frame while
the producer still draws it: it adds its own fence to the buffer, and starts when the producer's
fence signals. The producer starts the next frame when the consumer's fence signals. Both devices
are vgem, the kernel's test device: `modprobe vgem`. Needs Linux 6.0, and root or the
group render.

    python examples/handover.py [timeline.png]
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import NamedTuple

import dmabuf
from dmabuf import Access
from dmabuf.devices.drm import Vgem

FRAMES = 3
DRAWING = 0.12  # seconds of the producer's work
SHOWING = 0.06  # seconds of the consumer's
COLUMNS = 72
MARKS = {"draws": "#", "queued": ".", "shows": "="}


class Span(NamedTuple):
    """What one of them did, and when."""

    who: str
    what: str
    frame: int
    start: float
    end: float


async def produce(buffer: dmabuf.Buffer, queue: asyncio.Queue[int], spans: list[Span]) -> None:
    """Draw each frame once nobody shows the one before."""
    with Vgem() as device, device.import_buffer(buffer) as target:
        for frame in range(FRAMES):
            await buffer.ready(Access.WRITE)
            start = time.monotonic()
            fence = device.attach_fence(target, Access.WRITE)
            queue.put_nowait(frame)  # long before the frame is done
            await asyncio.sleep(DRAWING)
            buffer.memory[0] = frame
            fence.signal()
            spans.append(Span("producer", "draws", frame, start, time.monotonic()))


async def consume(buffer: dmabuf.Buffer, queue: asyncio.Queue[int], spans: list[Span]) -> None:
    """Queue each frame at once, and show it when its fence signals."""
    with Vgem() as device, dmabuf.allocate(4096) as job, device.import_buffer(job) as work:
        for _ in range(FRAMES):
            frame = await queue.get()
            queued = time.monotonic()
            fence = device.attach_fence(work, Access.WRITE)
            with buffer.export_fence(Access.READ) as drawn, job.export_fence(Access.READ) as shown:
                buffer.import_fence(shown, Access.READ)
                await drawn
            start = time.monotonic()
            spans.append(Span("consumer", "queued", frame, queued, start))
            with buffer.read() as memory:
                assert memory[0] == frame, "shown before it was drawn"
            await asyncio.sleep(SHOWING)
            spans.append(Span("consumer", "shows", frame, start, time.monotonic()))
            fence.signal()


async def run() -> list[Span]:
    """Return what both did."""
    spans: list[Span] = []
    queue: asyncio.Queue[int] = asyncio.Queue()
    with dmabuf.allocate(1 << 20, name="handover") as buffer:
        await asyncio.gather(produce(buffer, queue, spans), consume(buffer, queue, spans))
    return spans


def text(spans: list[Span]) -> str:
    """Return the time line in characters."""
    begin, end = min(span.start for span in spans), max(span.end for span in spans)
    lines = {"producer": [" "] * COLUMNS, "consumer": [" "] * COLUMNS}
    for span in spans:
        first, last = (int((t - begin) / (end - begin) * (COLUMNS - 1)) for t in span[3:])
        lines[span.who][first : last + 1] = MARKS[span.what] * (last + 1 - first)
        lines[span.who][first] = str(span.frame)
    rows = [f"{who} |{''.join(line)}|" for who, line in lines.items()]
    legend = "  ".join(f"{mark} {what}" for what, mark in MARKS.items())
    return "\n".join([*rows, f"{(end - begin) * 1000:.0f} ms;  {legend}"])


def picture(spans: list[Span], path: str) -> None:
    """Draw the time line as a PNG."""
    from PIL import Image, ImageDraw

    begin, end = min(span.start for span in spans), max(span.end for span in spans)
    colours = {"draws": "#c2410c", "queued": "#cbd5e1", "shows": "#0369a1"}
    image = Image.new("RGB", (900, 170), "white")
    draw = ImageDraw.Draw(image)
    scale = 780 / (end - begin)
    for row, who in enumerate(("producer", "consumer")):
        top = 20 + 55 * row
        draw.text((10, top + 14), who, fill="black")
        for span in (span for span in spans if span.who == who):
            left, right = (90 + (t - begin) * scale for t in (span.start, span.end))
            draw.rectangle((left, top, right, top + 40), fill=colours[span.what])
            ink = "black" if span.what == "queued" else "white"
            draw.text((left + 4, top + 14), f"{span.what} {span.frame}", fill=ink)
            if span.what == "shows":
                draw.line((left, 10, left, 125), fill="black")
    draw.text((90, 140), f"{(end - begin) * 1000:.0f} ms; lines: the fence signals", fill="black")
    image.save(path)


def main() -> None:
    """Print the time line, and save it if a path is given."""
    try:
        spans = asyncio.run(run())
    except OSError as error:  # without an exporter, vgem, or a kernel that exports fences
        sys.exit(" ".join(f"handover.py: {error.strerror}".split()))
    print(text(spans))
    for path in sys.argv[1:]:
        picture(spans, path)
        print(path)


if __name__ == "__main__":
    main()
