"""A camera's frames, encoded, decoded again and shown, without a copy of a picture.

The camera fills dma-heap buffers, which the encoder reads; the decoder fills others, which the
display shows. Only the coded data, which is small, is copied. Needs an encoder and a decoder of one
format, a raw format that all four devices support, and no other program on the display.

    python examples/camera_coded.py [--frames 100] [--camera /dev/video0] [--coded H264]
        [--display /dev/dri/card0]
"""

from __future__ import annotations

import argparse
import contextlib

import dmabuf
from dmabuf import Access
from dmabuf.devices import v4l2
from dmabuf.devices.kms import Display, Flip

BUFFERS = 4
LARGEST = 1280 * 720  # pixels; a software-emulated machine has to code them too


def agree(
    camera: v4l2.Capture, encoder: v4l2.Encoder, decoder: v4l2.Decoder, display: Display, coded: str
) -> v4l2.Format:
    """Set all of them to a format and a size that they have in common."""
    decoder.set_format(coded, 1280, 720)
    queues = camera, encoder.output, decoder.capture
    offered = [{one.format for one in queue.formats() if one.format} for queue in queues]
    modes = {mode.size for mode in display.connector.modes}
    for width, height in sorted(modes, key=lambda size: -size[0] * size[1]):
        if width * height <= LARGEST:
            for format in set.intersection(*offered):
                if format.name in display.plane.formats:
                    got = camera.set_format(format, width, height)
                    coding = encoder.set_format(format, width, height, coded=coded)
                    if (got.width, got.height) == (coding.width, coding.height) == (width, height):
                        return got
    raise SystemExit("camera, codecs and display have no format and size in common")


class Screen:
    """Shows decoded pictures, and gives each back once the display has the next."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._shown: v4l2.Frame | None = None
        self._flip: Flip | None = None
        self.count = 0

    def show(self, picture: v4l2.Frame) -> None:
        """Show a picture, and give the one before back."""
        self._flip = self._display.show(picture.image)
        self.leave()
        self._shown = picture
        self.count += 1

    def leave(self) -> None:
        """Give the picture on the screen back, once the display has let go of it."""
        if self._shown is not None and self._flip is not None:
            for buffer in self._shown.buffers:
                buffer.import_fence(self._flip.fence, Access.READ)
            self._shown.leave()

    def end(self) -> None:
        """Wait until the last picture is on the screen."""
        if self._flip is not None:
            self._flip.wait()
        if self._shown is not None:
            self._shown.leave()


def run(
    camera: v4l2.Capture,
    encoder: v4l2.Encoder,
    decoder: v4l2.Decoder,
    display: Display,
    options: argparse.Namespace,
) -> None:
    """Encode, decode and show, and tell how that went."""
    format = agree(camera, encoder, decoder, display, options.coded)
    with contextlib.ExitStack() as stack:

        def allocate(count: int, size: int) -> list[dmabuf.Buffer]:
            return [stack.enter_context(dmabuf.allocate(size)) for _ in range(count)]

        def results(decoded: v4l2.Format) -> list[dmabuf.Buffer]:
            made = decoder.capture.set_format(format.fourcc, decoded.width, decoded.height)
            return allocate(BUFFERS, made.sizeimage[0])

        size = max(format.sizeimage[0], encoder.output.format().sizeimage[0])
        buffers = allocate(BUFFERS, size)
        frames = stack.enter_context(camera.stream(buffers))
        encoding = stack.enter_context(encoder.stream(buffers[:2]))
        decoding = stack.enter_context(decoder.stream(results=results))
        screen, held, coded = Screen(display), {}, 0

        def decode(packet: v4l2.Frame) -> int:
            with packet, packet.data as data:
                decoding.feed(data, packet.timestamp)
                return len(data)

        for _, frame in zip(range(options.frames), frames, strict=False):
            held[frame.buffers] = frame
            done = encoding.sources.queue(frame.image)
            if done in held:
                held.pop(done).queue()  # the encoder is done with it
            while (packet := encoding.take()) is not None:
                coded += decode(packet)
            while (picture := decoding.take()) is not None:
                screen.show(picture)
        encoding.stop()
        for packet in encoding:
            coded += decode(packet)
        decoding.stop()
        for picture in decoding:
            screen.show(picture)
        screen.end()
        for frame in held.values():
            frame.leave()
        raw = format.sizeimage[0] * options.frames
        print(f"camera   {camera.device.path}, {camera.device.info.card}")
        print(f"codecs   {encoder.path} and {decoder.path}, {options.coded}")
        print(f"frames   {screen.count} of {format.format} {format.width}x{format.height}")
        print(f"coded    {coded} bytes of {raw}: {coded / raw:.1%}")


def main() -> None:
    """Take the options, and run."""
    parser = argparse.ArgumentParser(description="Encode a camera's frames, decode and show them.")
    parser.add_argument("--frames", type=int, default=100, metavar="N")
    parser.add_argument("--camera", metavar="NODE", default="/dev/video0")
    parser.add_argument("--coded", metavar="CODE", default="H264", help="by default H264")
    parser.add_argument("--display", metavar="NODE", help="by default the first that imports")
    options = parser.parse_args()
    with (
        v4l2.Capture(options.camera) as camera,
        v4l2.Encoder(v4l2.Encoder.find(options.coded)) as encoder,
        v4l2.Decoder(v4l2.Decoder.find(options.coded)) as decoder,
        Display(options.display) as display,
    ):
        run(camera, encoder, decoder, display, options)


if __name__ == "__main__":
    main()
