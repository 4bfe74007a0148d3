"""A camera's frames through a shader of moderngl, without a copy: from buffer to buffer, and shown.

The camera fills dma-heap buffers, in YUV. The GPU reads each of them, and draws into another one,
which a display, an encoder or another program can use. The program does not wait in between: fences
in the buffers make each device wait for the previous one. With --display the result is shown,
otherwise the last one is saved; with --figures the picture also has the measured times.

Needs a camera, a GPU whose driver imports dma-bufs (Mesa's software rendering does), moderngl 5.12
or later, Pillow 10.1 or later, Linux 6.0, and for --display no other program on the display;
`make demo` provides all of it.

    python examples/camera_through_shader.py [--frames 10] [--camera /dev/video0]
        [--display] [--screendump NAME.png] [--figures] [shader.png]
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import moderngl
from PIL import Image, ImageDraw, ImageFont

import dmabuf
from dmabuf import Access
from dmabuf.devices import v4l2
from dmabuf.devices.kms import Display
from dmabuf.interop import egl

WIDTH, HEIGHT = 640, 480  # what every camera and every monitor has
CAMERA_BUFFERS, RESULTS = 4, 2
PANEL, COLUMN, MARGIN = 640, 80, 16  # pixels beside the picture
# One triangle over all of the picture.
VERTICES = """#version 310 es
void main() {
    gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0, 0.0, 1.0);
}
"""
# What the camera sees, and below it the negative.
FRAGMENTS = """#version 310 es
#extension GL_OES_EGL_image_external_essl3 : require
precision highp float;
uniform highp samplerExternalOES frame;
uniform vec2 size;
out vec4 color;
void main() {
    vec2 place = gl_FragCoord.xy / size;
    vec4 seen = texture(frame, place);
    color = place.y < 0.5 ? seen : vec4(1.0 - seen.rgb, 1.0);
}
"""


class Shader:
    """What draws: images are imported once, and kept, since a camera has the same few again."""

    def __init__(self, context: egl.Context, stack: ExitStack) -> None:
        """Build the program; the stack closes what is imported."""
        moderngl.init_context(loader=context)
        self.opengl = moderngl.get_context()
        program = self.opengl.program(vertex_shader=VERTICES, fragment_shader=FRAGMENTS)
        program["size"] = WIDTH, HEIGHT
        self._triangle = self.opengl.vertex_array(program, [])
        self._stack = stack
        self._sources: dict[dmabuf.Buffer, egl.EglImage] = {}
        self._targets: dict[dmabuf.Buffer, Any] = {}

    def draw(self, source: dmabuf.Image, target: dmabuf.Image) -> dmabuf.Fence:
        """Have the GPU draw one image into another; the fence signals when it is done."""
        buffer, result = source.buffers[0], target.buffers[0]
        if buffer not in self._sources:
            self._sources[buffer] = self._import(source)
        if result not in self._targets:
            texture = self._import(target).texture()
            canvas = self.opengl.external_texture(texture, (WIDTH, HEIGHT), 4, 0, "f1")
            self._targets[result] = self.opengl.framebuffer([canvas])
        self._targets[result].use()
        self._sources[buffer].bind(0)
        self._triangle.render(vertices=3)
        drawn = egl.fence()
        buffer.import_fence(drawn, Access.READ)
        result.import_fence(drawn, Access.WRITE)
        return drawn

    def _import(self, image: dmabuf.Image) -> egl.EglImage:
        return self._stack.enter_context(egl.import_image(image))


def screendump(name: str) -> Path:
    """Have the virtual machine save what its display shows, and return where; see scripts/vm."""
    if "DMABUF_VM_SCREENDUMP" not in os.environ:
        raise SystemExit("--screendump is for the virtual machine: scripts/vm --display --out DIR")
    with open(os.environ["DMABUF_VM_SCREENDUMP"], "r+b", buffering=0) as port:
        port.write(f"{name}\n".encode())
        answer = port.readline().decode().strip()
    print(f"{name}: {answer}")
    return Path(os.environ["DMABUF_VM_OUT"], name)


def put_beside(path: Path, figures: list[tuple[str, str]]) -> None:
    """Write figures beside a picture, each with its name."""
    font = ImageFont.load_default(14)
    with Image.open(path) as picture:
        page = Image.new("RGB", (picture.width + PANEL, picture.height), "white")
        page.paste(picture)
        left = picture.width + MARGIN
    draw = ImageDraw.Draw(page)
    for row, (name, value) in enumerate(figures):
        top = MARGIN + row * 2 * MARGIN
        draw.text((left, top), name, "gray", font)
        draw.text((left + COLUMN, top), value, "black", font)
    page.save(path)


def run(camera: v4l2.Capture, display: Display | None, options: argparse.Namespace) -> None:
    """Draw frames, show or save the result, and tell how that went."""
    format = camera.set_format("YUYV", WIDTH, HEIGHT)
    size = max(format.sizeimage[0], format.bytesperline[0] * format.height)
    with ExitStack() as stack:
        results = [
            stack.enter_context(dmabuf.Image.allocate("XRGB8888", WIDTH, HEIGHT, stride_align=256))
            for _ in range(RESULTS)
        ]
        buffers = [
            stack.enter_context(dmabuf.allocate(size, name=f"frame {number}"))
            for number in range(CAMERA_BUFFERS)
        ]
        shader = Shader(stack.enter_context(egl.Context()), stack)
        frames = stack.enter_context(camera.stream(buffers))
        begun, busy = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
        flip = None
        for number, frame in zip(range(options.frames), frames, strict=False):
            result = results[number % RESULTS]
            if flip is not None:
                egl.wait(flip.fence)  # the display has let go of what was shown before
            with frame, shader.draw(frame.image, result) as drawn:
                if display is not None:
                    flip = display.show(result, drawn)
        if flip is not None:
            flip.wait()
        took = time.monotonic() - begun
        spent = resource.getrusage(resource.RUSAGE_SELF).ru_utime - busy.ru_utime
        picture = options.path
        if options.screendump:
            picture = screendump(options.screendump)
        elif picture:
            result.save(picture)  # waits for the fence
        shown = "none" if display is None else f"{display.path}, {display.driver}, {display.mode}"
        figures = [
            ("kernel", f"Linux {os.uname().release}"),
            ("camera", f"{camera.device.path}, {camera.device.info.card}"),
            ("frames", f"{options.frames} of {format.format} {format.width}x{format.height}"),
            ("GPU", shader.opengl.info["GL_RENDERER"]),
            ("display", shown),
            ("rate", f"{options.frames / took:.1f} frames per second"),
            ("process", f"{spent / options.frames * 1000:.1f} ms of processor time a frame"),
            (
                "copies",
                "none by this program; GPUs and displays without hardware work by the processor",
            ),
        ]
        buffers += [result.buffers[0] for result in results]
        figures += [("buffer", str(buffer)) for buffer in buffers]
        for name, value in figures:
            print(f"{name:<8} {value}")
        if options.figures:
            put_beside(picture, figures)


def main() -> None:
    """Take the options, and run."""
    parser = argparse.ArgumentParser(description="Draw a camera's frames by a shader.")
    parser.add_argument("path", metavar="PICTURE", nargs="?", help="where the last is saved")
    parser.add_argument("--frames", type=int, default=10, metavar="N")
    parser.add_argument("--camera", metavar="NODE", help="by default the first")
    parser.add_argument("--display", action="store_true", help="show the result")
    parser.add_argument("--screendump", metavar="NAME.png", help="in the virtual machine only")
    parser.add_argument("--figures", action="store_true", help="write them beside the picture")
    options = parser.parse_args()
    if options.figures and not (options.path or options.screendump):
        parser.error("--figures are written beside a picture: name one")
    with ExitStack() as stack:
        camera = stack.enter_context(v4l2.Capture(options.camera or v4l2.Capture.find()))
        display = stack.enter_context(Display()) if options.display else None
        run(camera, display, options)


if __name__ == "__main__":
    main()
