"""Camera to GPU to display, against the pipeline that copies; writes opengl.json.

Both draw each frame of a camera by the same shader of OpenGL ES, and show it. Ours has the camera's
buffers as textures, and draws into what is shown. The other one is what programs in Python do
today: glTexImage2D of a numpy array, glReadPixels, and a copy into the display's memory. The
camera's own pace is not in the figures. On a camera and a display that nobody uses, in
`scripts/vm --userland gpu`, where PyOpenGL and moderngl are.
"""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import moderngl
import numpy
from compare import keep_best, report

os.environ.setdefault("PYOPENGL_PLATFORM", "egl")  # before it is imported

from OpenGL import GLES3 as GL

import dmabuf
from dmabuf import Image
from dmabuf.devices import v4l2
from dmabuf.devices.kms import Display
from dmabuf.interop import egl

REPEATS = 3
FRAMES = 8
SIZE = WIDTH, HEIGHT = 640, 480
VERTICES = """#version 310 es
void main() {
    gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0, 0.0, 1.0);
}
"""
# The picture as it is: what is copied keeps the order of its bytes, so that nobody swaps them.
FRAGMENTS = """#version 310 es
precision highp float;
uniform highp sampler2D frame;
out vec4 color;
void main() {
    color = texelFetch(frame, ivec2(gl_FragCoord.xy), 0);
}
"""


class Way:
    """One way from a frame's image to the screen."""

    def __init__(self, opengl: Any, display: Display, results: list[Image]) -> None:
        """Build the shader."""
        self._display = display
        self._results = results
        program = opengl.program(vertex_shader=VERTICES, fragment_shader=FRAGMENTS)
        self._triangle = opengl.vertex_array(program, [])
        self._flips = 0

    def _next(self) -> Image:
        self._flips += 1
        return self._results[self._flips % len(self._results)]


class Uncopied(Way):
    """The camera's buffer is the texture, and what is drawn into is what is shown."""

    def __init__(self, opengl: Any, display: Display, results: list[Image], stack: ExitStack):
        """Import the results."""
        super().__init__(opengl, display, results)
        self._stack = stack
        self._sources: dict[dmabuf.Buffer, egl.EglImage] = {}
        self._targets = {}
        for result in results:
            texture = stack.enter_context(egl.import_image(result)).texture()
            canvas = opengl.external_texture(texture, SIZE, 4, 0, "f1")
            self._targets[result.buffers[0]] = opengl.framebuffer([canvas])

    def show(self, image: Image) -> None:
        """Draw and show a frame."""
        buffer = image.buffers[0]
        if buffer not in self._sources:
            self._sources[buffer] = self._stack.enter_context(egl.import_image(image))
        result = self._next()
        self._targets[result.buffers[0]].use()
        self._sources[buffer].bind(0)
        self._triangle.render(vertices=3)
        with egl.fence() as drawn:
            self._display.show(result, drawn).wait()


class Copied(Way):
    """The frame is copied into a texture, drawn, read back, and copied into what is shown."""

    def __init__(self, opengl: Any, display: Display, results: list[Image]):
        """Make a texture for frames, and one to draw into."""
        super().__init__(opengl, display, results)
        self._canvas = opengl.framebuffer([opengl.texture(SIZE, 4)])
        self._texture = GL.glGenTextures(1)
        self._pixels = numpy.empty((HEIGHT, WIDTH, 4), "u1")

    def show(self, image: Image) -> None:
        """Draw and show a frame."""
        self._canvas.use()
        GL.glActiveTexture(GL.GL_TEXTURE0)
        GL.glBindTexture(GL.GL_TEXTURE_2D, self._texture)
        GL.glTexParameteri(GL.GL_TEXTURE_2D, GL.GL_TEXTURE_MIN_FILTER, GL.GL_NEAREST)
        with image.read() as (pixels,):
            about = (GL.GL_TEXTURE_2D, 0, GL.GL_RGBA, WIDTH, HEIGHT, 0, GL.GL_RGBA)
            GL.glTexImage2D(*about, GL.GL_UNSIGNED_BYTE, numpy.ascontiguousarray(pixels))
        self._triangle.render(vertices=3)
        GL.glReadPixels(0, 0, *SIZE, GL.GL_RGBA, GL.GL_UNSIGNED_BYTE, self._pixels)
        result = self._next()
        with result.write() as (shown,):
            shown[:] = self._pixels
        self._display.show(result).wait()


def measure(frames: v4l2.Stream, show: Callable[[Image], None]) -> tuple[float, float]:
    """Return nanoseconds of time and of processor time a frame."""
    took = spent = 0
    for _, frame in zip(range(FRAMES), frames, strict=False):
        with frame:
            begun, busy = time.perf_counter_ns(), time.process_time_ns()
            show(frame.image)
            took += time.perf_counter_ns() - begun
            spent += time.process_time_ns() - busy
    return took / FRAMES, spent / FRAMES


def main() -> None:
    """Measure in turns, and print the ratios."""
    latency: dict[str, float] = {}
    busy: dict[str, float] = {}
    with ExitStack() as stack:
        display = stack.enter_context(Display())
        nodes = map(v4l2.inspect, sorted(glob.glob("/dev/video*")))
        node = next(about.path for about in nodes if about.capture and not about.m2m)
        camera = stack.enter_context(v4l2.Capture(node))
        camera.set_format("XRGB8888", *SIZE)
        frames = stack.enter_context(camera.stream(count=4))
        results = [
            stack.enter_context(Image.allocate("XRGB8888", *SIZE, stride_align=256))
            for _ in range(2)
        ]
        context = stack.enter_context(egl.Context())
        moderngl.init_context(loader=context)
        opengl = moderngl.get_context()
        ways = {
            "dmabuf": Uncopied(opengl, display, results, stack).show,
            "copied": Copied(opengl, display, results).show,
        }
        for show in ways.values():  # what is compiled and imported once
            measure(frames, show)
        for _ in range(REPEATS):
            for way, show in ways.items():
                took, spent = measure(frames, show)
                keep_best(latency, way, took)
                keep_best(busy, way, spent)
    report("opengl", {"camera to screen": latency, "processor time": busy})


if __name__ == "__main__":
    main()
